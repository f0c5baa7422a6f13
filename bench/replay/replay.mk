# SPDX-License-Identifier: MIT
#
# replay.mk: bench-replay, the placement policies by replay, into docs/results/replay.{json,md,svg}.

REPLAY := $(B)/bench/replay

.PHONY: bench-replay

$(REPLAY)/sweep: $(REPLAY)/sweep.o $(REPLAY)/sweep_draw.o $(B)/bench/lib/result.o $(B)/libdisco.a
	$(CC) $(LINK) -o $@ $^ $(LIBS)

bench-replay: $(REPLAY)/sweep
	@B='$(B)' bench/replay/replay.sh docs/results
