// SPDX-License-Identifier: MIT
//
// sim.v: a ring of N memories, each with a random address in every cycle and its neighbour's last
// word added there, for the logic simulator: more memory than a cache has, in no order a cache likes.
module element(input clk, input [31:0] d);
  parameter SEED = 1;
  reg [31:0] m [0:4095];
  reg [31:0] x, w, q;
  initial begin
    x = SEED * 32'd2654435761;
    q = SEED;
  end
  always @(posedge clk) begin
    x = x * 1664525 + 1013904223;
    w = m[x[31:20]];
    if (w === 32'bx) w = x;
    m[x[31:20]] = w + d;
    q <= w;
  end
endmodule

module top;
  parameter N = 64;
  reg clk = 0;
  genvar i;
  generate
    for (i = 0; i < N; i = i + 1) begin : c
      element #(i) u(clk, c[(i + 1) % N].u.q);
    end
  endgenerate
  integer k, cycles;
  initial begin
    if (!$value$plusargs("cycles=%d", cycles)) cycles = 120;
    for (k = 0; k < cycles; k = k + 1) begin
      #5 clk = 1;
      #5 clk = 0;
    end
    $display("%h %h %h", c[0].u.q, c[N / 2].u.q, c[N - 1].u.q);
    $finish;
  end
endmodule
