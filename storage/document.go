package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A field is one key of a mapping and what it holds.
type field struct {
	name  string // variables are not filled in
	key   *yaml.Node
	value *yaml.Node // no alias
}

// A reader reads one task file and collects what is wrong with it.
type reader struct {
	file     string
	opts     Options
	env      map[string]variable
	fields   map[*yaml.Node][]field // of mappings that were read before; nil while one is being read
	merging  int                    // how deep
	problems Problems
	warnings Problems
}

func (r *reader) at(n *yaml.Node, hint, format string, args []any) Problem {
	p := Problem{File: r.file, Message: oneLine(fmt.Sprintf(format, args...)), Hint: oneLine(hint)}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	return p
}

// problem records what is wrong at n; hint may be "".
func (r *reader) problem(n *yaml.Node, hint, format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, r.at(n, hint, format, args))
	}
}

// warn records what is odd at n, but no reason to stop.
func (r *reader) warn(n *yaml.Node, hint, format string, args ...any) {
	if len(r.warnings) < maxProblems {
		r.warnings = append(r.warnings, r.at(n, hint, format, args))
	}
}

// maxProblems bounds what one file can make us say.
const maxProblems = 1000

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }

// document returns the mapping that is the task, and nil when the file holds
// none. As for SkyPilot, a first document with nothing but a name names the
// rest, and empty ones do not count.
func (r *reader) document(content []byte) *yaml.Node {
	var tasks []*yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for i := 0; ; i++ {
		var doc yaml.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			r.syntax(err)
			return nil
		}
		if len(doc.Content) == 0 {
			continue
		}
		n := resolve(doc.Content[0])
		switch kindOf(n) {
		case kindMapping:
			if i == 0 && onlyName(n) {
				continue
			}
			tasks = append(tasks, n)
		case kindNull:
		default:
			r.problem(n, "a task file is a mapping: file_mounts: and what follows", "YAML loaded as %s, not as a mapping", kindOf(n))
			return nil
		}
	}
	if len(tasks) > 1 {
		r.problem(tasks[1], "put each task into a file of its own", "the file holds %d tasks, and only SkyPilot's managed jobs take more than one", len(tasks))
	}
	if len(tasks) == 0 {
		return nil
	}
	return tasks[0]
}

func onlyName(n *yaml.Node) bool {
	return len(n.Content) == 2 && n.Content[0].Value == "name"
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntax reports what the YAML library says. It gives a line in its words only.
func (r *reader) syntax(err error) {
	words := strings.TrimPrefix(err.Error(), "yaml: ")
	n := &yaml.Node{Line: 1, Column: 1}
	if m := yamlLine.FindStringSubmatch(words); m != nil {
		n.Line, _ = strconv.Atoi(m[1])
		words = words[len(m[0]):]
	}
	r.problem(n, "check the indentation and the quotes there", "not valid YAML: %s", words)
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// fieldsOf returns the fields of a mapping in their order, with those that it
// merges (<<). A key that stands twice holds what stands last, as PyYAML has it.
func (r *reader) fieldsOf(n *yaml.Node) []field {
	if known, ok := r.fields[n]; ok {
		return known // nil within itself: a mapping cannot merge itself
	}
	r.fields[n] = nil
	fields := r.merged(n)
	index := make(map[string]int)
	for i, f := range fields {
		index[f.name] = i
	}
	own := make(map[string]int) // the lines of n's own keys
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Tag == mergeTag {
			continue
		}
		f := field{resolve(key).Value, key, resolve(n.Content[i+1])}
		if line, twice := own[f.name]; twice {
			r.warn(key, "remove one of them", "%q stands in line %d already: the last one is taken", f.name, line)
		}
		own[f.name] = key.Line
		if i, known := index[f.name]; known {
			fields[i] = f
			continue
		}
		index[f.name] = len(fields)
		fields = append(fields, f)
	}
	r.fields[n] = fields
	return fields
}

const mergeTag = "!!merge"

// maxMerges bounds how deep mappings merge mappings: more is no task, but a
// file made to fill the memory.
const maxMerges = 100

// merged returns the fields that n's << bring in, each once.
func (r *reader) merged(n *yaml.Node) []field {
	r.merging++
	defer func() { r.merging-- }()
	var fields []field
	index := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != mergeTag {
			continue
		}
		if r.merging > maxMerges {
			r.problem(n.Content[i], "write the fields themselves", "mappings merge mappings more than %d deep", maxMerges)
			return nil
		}
		for _, from := range mergeOrder(resolve(n.Content[i+1])) {
			for _, f := range r.fieldsOf(from) {
				if i, known := index[f.name]; known {
					fields[i] = f
					continue
				}
				index[f.name] = len(fields)
				fields = append(fields, f)
			}
		}
	}
	return fields
}

// mergeOrder returns the mappings that << holds, the one that wins last: in a
// list that is the first. Each stands there once.
func mergeOrder(n *yaml.Node) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return []*yaml.Node{n}
	}
	var order []*yaml.Node
	seen := make(map[*yaml.Node]bool)
	for _, c := range n.Content {
		if c = resolve(c); !seen[c] {
			seen[c] = true
			order = append(order, c)
		}
	}
	slices.Reverse(order)
	return order
}
