#include "tamper.h"
void tamper_volume(void) {}
