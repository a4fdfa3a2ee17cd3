// Package storage reads the task files that SkyPilot's users have, and knows
// the rules that SkyPilot sets for them: what a file mount may say, which names
// a bucket may have, which store is taken when none is named, and which buckets
// may be used, made and deleted.
//
// It promises the verdict that SkyPilot gives, in SkyPilot's words, but for all
// problems of a file at once, each with its line and what to write instead. A
// field that SkyPilot accepts is accepted. Where skyagent can do more than
// SkyPilot, as for a mount of a part of a bucket, the file is accepted with a
// warning that SkyPilot refuses it. Nothing that a file says makes it panic.
//
// It does not ask any store: whether a bucket is there, and whether what a URI
// names is one object or many, is for those who open it. It reads no source,
// beyond what they are. Sections that say nothing about files are not looked
// at.
package storage
