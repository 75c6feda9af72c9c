// Package plan says what the kernel shall hold for one attachment, and what differs from it. It is pure: the same
// configuration and addresses always give the same plan. ADD applies a plan, CHECK compares it with what the kernel
// shows, DEL and a failed ADD undo it.
package plan
