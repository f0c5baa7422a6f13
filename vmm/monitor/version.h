/* SPDX-License-Identifier: MIT */
/*
 * The version that `disco --version` prints.  The Makefile defines it from the file VERSION; what is
 * here serves whoever compiles by hand.
 */
#ifndef DISCO_VMM_MONITOR_VERSION_H
#define DISCO_VMM_MONITOR_VERSION_H

#ifndef DISCO_VERSION
#define DISCO_VERSION "0.1.0"
#endif

#endif
