package watcher

import "golang.org/x/sys/unix"

// remote reports whether path is on a file system that other machines, or a
// program in user space, can change without any event here. Leases there ask
// the server and mean something else.
func remote(path string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return false
	}
	switch uint32(st.Type) { // statfs(2); the field is signed on some systems
	case 0x00006969, // NFS
		0xff534d42, 0xfe534d42, 0x0000517b, // CIFS, SMB2, SMB
		0x65735546,             // FUSE: s3fs, gcsfuse, sshfs, virtiofs
		0x01021997,             // 9p, and drives of the host under WSL
		0x5346414f, 0x6b414653, // AFS
		0x00c36400, // Ceph
		0x0bd00bd0, // Lustre
		0x47504653, // GPFS
		0x19830326, // BeeGFS
		0x73757245: // Coda
		return true
	}
	return false
}
