/* A program with nothing in it but one layer and what that layer may use: it links only if no call points upwards. */
int main(void)
{
	return 0;
}
