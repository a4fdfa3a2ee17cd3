package bus

import (
	"encoding/base64"

	"github.com/nats-io/nats.go"

	"github.com/skyagent/skyagent/manifest"
)

// Headers of a signed event.
const (
	writerHeader    = "Skyagent-Writer"
	signatureHeader = "Skyagent-Signature"
)

// A message is an event as it travels: who says it, the encoding, and the
// signature over it.
type message struct {
	writer    string
	signature []byte
	body      []byte
}

// sign encodes e as k's event for its storage.
func sign(k *Key, e manifest.Event) (message, error) {
	e.Writer = k.ID()
	body, err := Encode(e)
	if err != nil {
		return message{}, err
	}
	return message{writer: k.ID(), signature: k.Sign(e.Storage, body), body: body}, nil
}

// signWrites encodes w as k's writes to its storage.
func signWrites(k *Key, w manifest.Writes) (message, error) {
	w.Writer = k.ID()
	body, err := EncodeWrites(w)
	if err != nil {
		return message{}, err
	}
	return message{writer: k.ID(), signature: k.SignWrites(w.Storage, body), body: body}, nil
}

// on returns m as a NATS message for subject.
func (m message) on(subject string) *nats.Msg {
	n := nats.NewMsg(subject)
	n.Header.Set(writerHeader, m.writer)
	n.Header.Set(signatureHeader, base64.StdEncoding.EncodeToString(m.signature))
	n.Data = m.body
	return n
}

// parseMessage finds the parts of a received message. Of those that are missing
// or damaged it returns none; the verifier says what that means.
func parseMessage(n *nats.Msg) message {
	m := message{writer: n.Header.Get(writerHeader), body: n.Data}
	if s, err := base64.StdEncoding.DecodeString(n.Header.Get(signatureHeader)); err == nil {
		m.signature = s
	}
	return m
}
