// What tools/cluster/build fetches where the installed Go is too old; go.sum is what makes it the right one.
module strake.io/tools/toolchain

go 1.19
