package storage

import (
	"regexp"

	"go.yaml.in/yaml/v3"
)

// A variable is one that the task sets, under envs or secrets.
type variable struct {
	value string
	known bool // it has a value: in the file, or in our own environment
	where string
}

// readEnvs collects envs and secrets, which win. A variable without a value
// takes our own environment's, as with SkyPilot's --env NAME.
func (r *reader) readEnvs(task []field) {
	r.env = make(map[string]variable)
	for _, section := range []string{"envs", "secrets"} {
		for _, f := range task {
			if f.name == section {
				r.readSection(section, f.value)
			}
		}
	}
}

func (r *reader) readSection(section string, n *yaml.Node) {
	switch kindOf(n) {
	case kindNull:
		return
	case kindMapping:
	default:
		r.problem(n, "write NAME: value, a line each", "%s is %s, not a mapping", section, kindOf(n))
		return
	}
	for _, f := range r.fieldsOf(n) {
		v := variable{where: section}
		switch kindOf(f.value) {
		case kindNull:
			v.value, v.known = r.opts.Env(f.name)
		case kindMapping, kindList:
			r.problem(f.value, "put it in quotes", "the value of %s in %s is %s, not a string", f.name, section, kindOf(f.value))
			v.known = true
		default:
			v.value, v.known = pythonString(f.value), true
		}
		r.env[f.name] = v
	}
}

// reference is SkyPilot's own pattern: it takes ${NAME}, $NAME, and also what
// lacks one of the braces.
var reference = regexp.MustCompile(`\$\{?\b([a-zA-Z_][a-zA-Z0-9_]*)\b\}?`)

// fill puts the task's variables into s. What the task does not set is left as
// it is; one that has no value is a problem.
func (r *reader) fill(n *yaml.Node, s string) (string, bool) {
	ok := true
	s = reference.ReplaceAllStringFunc(s, func(ref string) string {
		name := reference.FindStringSubmatch(ref)[1]
		v, set := r.env[name]
		if v.known {
			return v.value
		}
		if set {
			ok = false
			r.problem(n, `give it a value in the file or in your environment; to set it to be empty, write `+name+`: ""`,
				"environment variable %q in %s has no value", name, v.where)
		}
		return ref
	})
	return s, ok
}

// text returns a string with its variables filled in. Anything else is a
// problem and no text; what names it in that.
func (r *reader) text(n *yaml.Node, what string) (string, bool) {
	if k := kindOf(n); k != kindString {
		hint := "write it as text"
		if n.Kind == yaml.ScalarNode && k != kindNull {
			hint = `put it in quotes: "` + n.Value + `"`
		}
		r.problem(n, hint, "%s is %s, not a string", what, k)
		return "", false
	}
	return r.fill(n, n.Value)
}
