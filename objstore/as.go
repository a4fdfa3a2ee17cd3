package objstore

// As returns the first T in s and what s is wrapped around: what a kind of
// store can do beyond the interface is reached past the decorators.
func As[T any](s Store) (T, bool) {
	for {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			var none T
			return none, false
		}
		s = w.Unwrap()
	}
}

func (r *retried) Unwrap() Store  { return r.Store }
func (o *observed) Unwrap() Store { return o.Store }
