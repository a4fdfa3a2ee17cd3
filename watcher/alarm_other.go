//go:build !linux

package watcher

func newAlarm() (alarm, error) { return newTicker(), nil }
