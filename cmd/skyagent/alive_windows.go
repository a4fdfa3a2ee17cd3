package main

import "os"

func processAlive(pid int) bool {
	p, err := os.FindProcess(pid) // opens the process: fails when there is none
	if err != nil {
		return false
	}
	p.Release()
	return true
}
