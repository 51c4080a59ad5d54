package signals

import "bytes"

// codeMarks are what source code has and prose has not.
var codeMarks = [][]byte{
	[]byte("```"), []byte("#include"), []byte("func "), []byte("def "), []byte("return "), []byte("import "), []byte("const "), []byte("class "),
	[]byte("public "), []byte("();"), []byte(" => "), []byte(" == "), []byte(" != "), []byte("</"), []byte("SELECT "), []byte(" := "), []byte("#!/"),
	[]byte("):\n"), []byte("{\n"), []byte("};"), []byte(");\n"), []byte("null"), []byte("self."), []byte("Exception"), []byte("Traceback"),
}

// isPunctuation is 1 for the punctuation of source code.
var isPunctuation = [256]uint8{'{': 1, '}': 1, '(': 1, ')': 1, '[': 1, ']': 1, ';': 1, '=': 1, '<': 1, '>': 1, '_': 1}

// hasCode says whether a text holds source code: a fenced block, or several of its marks with much of its
// punctuation.
func hasCode(p part) bool {
	marks, punctuation, size := 0, 0, 0
	for _, text := range p {
		for i, mark := range codeMarks {
			if !bytes.Contains(text, mark) {
				continue
			}
			if i == 0 {
				return true
			}
			marks++
		}
		for _, c := range text {
			punctuation += int(isPunctuation[c])
		}
		size += len(text)
	}
	return marks >= 2 && punctuation*20 > size
}
