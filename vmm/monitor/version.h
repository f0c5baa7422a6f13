/* SPDX-License-Identifier: MIT */
/* The version `disco --version` prints; the Makefile may define it. */
#ifndef DISCO_VMM_MONITOR_VERSION_H
#define DISCO_VMM_MONITOR_VERSION_H

#ifndef DISCO_VERSION
#define DISCO_VERSION "0.1.0"
#endif

#endif
