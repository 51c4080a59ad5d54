package api

// Reach returns how far each role may use a method, by the table: "", "own", "team" or "all"; ok is false if
// the table lacks the method.
func Reach(method string) (reach map[string]string, ok bool) {
	row, ok := access[method]
	reach = make(map[string]string)
	for i, r := range roles {
		reach[string(r)] = map[span]string{none: "", own: "own", team: "team", all: "all"}[row[i]]
	}
	return reach, ok
}

// Public says whether a method needs no API key.
func Public(method string) bool { return public[method] }

// Methods returns the names in the table.
func Methods() (names []string) {
	for name := range access {
		names = append(names, name)
	}
	return names
}
