package store

// ListSQL shows tests the statement of a list.
func (k *Kind) ListSQL(in Scope, q Query) (string, []any, error) {
	terms, err := k.terms(q.OrderBy)
	if err != nil {
		return "", nil, err
	}
	return k.listSQL(in, q, terms)
}
