/* clang-format off */
/* Made by sealed.py: do not edit. */
static const struct sealed_vector {
	const char *block_sha256, *block_tag, *record, *page_tag;
} sealed_vectors[] = {
	[1] = {
		"251c0bdfd26cc2cdd1b10b9f09a30fec1f37459a29f3911e0dea066f7d929475",
		"00000000000000000000000000000000",
		"a0a1a2a3a4a5a6a7a8a9aaab27ac3ce84decf7d192708117a13862b22c9c4c3d2ef8d9e7eb6bc2e82f6998fdcf3271a202f7b915536d4c26972647998d141c9c066e2e046d",
		"1de85f5d28888dd0b22375dacf215657",
	},
	[2] = {
		"e6c2307fe7eff237ebf59326fa60c2269509166d1f4fc7fe2713b1cbc82a461d",
		"6a92843897910662cb1db8e2ba6d9d57",
		"a0a1a2a3a4a5a6a7a8a9aaab1c3d6385783cf1bfff453dfdd0255ed078b3ae8a1b638713b3e4d6c44e79d69157e957922bbae3aef34869cbc7ce0f2c510ef3448d6ed2093c",
		"7b5fb70b6ac8d02f4298f3227c20a8a0",
	},
	[3] = {
		"9cc7a4a559aabf55e3e1646e9205878e2e55377a8c42077578578f7ce70bf256",
		"094589eaa565f157e22e9245eca31ecf",
		"a0a1a2a3a4a5a6a7a8a9aaab459f2b4fba602ffac62639bdd63b1f020665a9efac7b00db745e529a47312dc782b102f5d617857a5bc017aae0f903294bccd9ab2c39f36bf3",
		"64f1e7d9e8f91761b867e3aee05cb596",
	},
};
static const char wrapped_key[] = "92f48c52045c08050ec796a5a91c5ddaf7c61cbdc940adc8d3dc8a144f6161a8c5d3299e325f1750";
static const char wrapped_short_key[] = "39b6737075bdbfec2e987fcbc3be6099";
static const char sealed_key_public[] = "79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a";
static const char sealed_key[] = "675dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f7b6f97ee22b5590134bc72b2c5c91129dce5ab329c323e38ceab7c1e1debf762a802552b76cf5139";
