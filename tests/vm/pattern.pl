# SPDX-License-Identifier: Apache-2.0
#
# perl pattern.pl write|verify FILE MIB: data that differ in every block of 4096 bytes, cheap to make and to compare on an emulated processor.
# verify reads the file and compares every byte with what was to be there.
use strict;
use warnings;

my ($verb, $path, $mib) = @ARGV;
my $seed = 1;
my $noise = pack('N*', map { $seed = ($seed * 1103515245 + 12345) & 0xffffffff } 1 .. 2048);

sub block { # number of a MiB
	my $first = $_[0] * 256;
	return join('', map { pack('Q<', $_) . substr($noise, ($_ * 7) & 4095, 4088) } $first .. $first + 255);
}

open(my $file, $verb eq 'write' ? '>' : '<', $path) or die "$path: $!\n";
for my $number (0 .. $mib - 1) {
	my $wanted = block($number);
	if ($verb eq 'write') {
		(syswrite($file, $wanted) // -1) == length $wanted or die "$path: MiB $number: $!\n";
	} else {
		my $found = '';
		while (length $found < length $wanted) {
			my $count = sysread($file, $found, length($wanted) - length $found, length $found);
			die "$path: MiB $number: " . (defined $count ? 'the file ends' : $!) . "\n" unless $count;
		}
		die "$path: MiB $number differs\n" if $found ne $wanted;
	}
}
close($file) or die "$path: $!\n";
