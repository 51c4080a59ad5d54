package signals

import "bytes"

// fence begins a block of source code in Markdown.
var fence = []byte("```")

// codeMarks are what source code has and prose has not.
var codeMarks = [][]byte{
	[]byte("#include"), []byte("func "), []byte("def "), []byte("return "), []byte("import "), []byte("const "), []byte("class "),
	[]byte("public "), []byte("();"), []byte(" => "), []byte(" == "), []byte(" != "), []byte("</"), []byte("SELECT "), []byte(" := "), []byte("#!/"),
	[]byte("):\n"), []byte("{\n"), []byte("};"), []byte(");\n"), []byte("null"), []byte("self."), []byte("Exception"), []byte("Traceback"),
}

// isPunctuation is 1 for the punctuation of source code.
var isPunctuation = [256]uint8{'{': 1, '}': 1, '(': 1, ')': 1, '[': 1, ']': 1, ';': 1, '=': 1, '<': 1, '>': 1, '_': 1}

// hasCode says whether a text holds source code: a fenced block, or several of its marks with much of its
// punctuation. Most texts have little punctuation, and are not searched for the marks.
func hasCode(p part) bool {
	punctuation, size := 0, 0
	for _, text := range p {
		if bytes.Contains(text, fence) {
			return true
		}
		for _, c := range text {
			punctuation += int(isPunctuation[c])
		}
		size += len(text)
	}
	return punctuation*20 > size && marks(p) >= 2
}

func marks(p part) (n int) {
	for _, text := range p {
		for _, mark := range codeMarks {
			if bytes.Contains(text, mark) {
				n++
			}
		}
	}
	return n
}
