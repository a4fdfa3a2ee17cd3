// Package ignore says which entries of a source its owner does not want synced,
// and by which rule.
//
// There is one engine for every way that files take, and it reads patterns as
// git does: negation, nested files, anchors, "**", sets, escapes, names that are
// any bytes. The rules of a source are, as in SkyPilot:
//
//   - those of .skyignore, when the source's root has one: of that file and of
//     every .skyignore below. They stand in place of git's, and an empty file
//     means that nothing is ignored.
//   - otherwise git's, where git would apply them: in a work tree, be the source
//     part of one, one itself, or a directory that holds some. That is every
//     .gitignore from the top of the work tree down, .git/info/exclude, and
//     core.excludesFile. What git tracks is synced, whatever the rules say.
//   - in either case a .git of any depth, whatever the rules say. Where the
//     Options keep it, a .skyignore alone may ignore it.
//
// A source that git's rules ignore as a whole is synced whole: somebody asked
// for just that directory.
//
// Freshness. Rule files are read whenever a directory is met; nobody has to tell
// of a change. A Dir holds what was read when it was made: whoever keeps one does
// so for one walk or one batch. A file that is being written or replaced says too
// little for a moment, so until Settle is called what was ignored before is
// ignored still. Where rules cannot be read those count that could be before; if
// there are none, nothing of the directory is taken to be wanted.
//
// Limits. Git itself is run for what only it knows: core.excludesFile and what
// it tracks. It reads, and runs nothing of a repository's choice. Without it both
// are taken to be nothing, with a warning. A .gitignore
// that is a symbolic link does not count, as in git; core.ignoreCase neither.
package ignore
