package blocks

// Allocated is how many bytes a file takes on disk, about.
var Allocated = allocated
