// Package lease holds everything about addresses that needs no kernel: the ranges they come from, the order in which
// they are tried, and the alternative interface name that is a lease while the interface exists.
package lease
