package storage

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A kind is a type of YAML, as its version 1.1 has them: SkyPilot reads its
// files with PyYAML, for which yes is a boolean and 1:30 is a number.
type kind string

const (
	kindNull    kind = "null"
	kindBool    kind = "a boolean"
	kindInt     kind = "an integer"
	kindFloat   kind = "a number"
	kindTime    kind = "a date"
	kindString  kind = "a string"
	kindList    kind = "a list"
	kindMapping kind = "a mapping"
)

// plain are PyYAML's own patterns of scalars without quotes.
var plain = []struct {
	kind kind
	re   *regexp.Regexp
}{
	{kindNull, regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)},
	{kindBool, regexp.MustCompile(`^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$`)},
	{kindInt, regexp.MustCompile(`^(?:[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)},
	{kindFloat, regexp.MustCompile(`^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|` +
		`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)},
	{kindTime, regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9][0-9]?-[0-9][0-9]?(?:[Tt]|[ \t]+)[0-9][0-9]?:[0-9]{2}:[0-9]{2}` +
		`(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)$`)},
}

// kindOf returns the type of a node that is no alias.
func kindOf(n *yaml.Node) kind {
	switch n.Kind {
	case yaml.MappingNode:
		return kindMapping
	case yaml.SequenceNode:
		return kindList
	}
	if n.Style&yaml.TaggedStyle != 0 {
		return tagged(n.Tag)
	}
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return kindString
	}
	for _, p := range plain {
		if p.re.MatchString(n.Value) {
			return p.kind
		}
	}
	return kindString
}

func tagged(tag string) kind {
	switch tag {
	case "!!null":
		return kindNull
	case "!!bool":
		return kindBool
	case "!!int":
		return kindInt
	case "!!float":
		return kindFloat
	case "!!timestamp":
		return kindTime
	}
	return kindString
}

// truth reads a boolean.
func truth(s string) bool {
	switch strings.ToLower(s) {
	case "yes", "true", "on":
		return true
	}
	return false
}

// pythonString returns what Python's str makes of a scalar: it is what SkyPilot
// puts in place of a variable.
func pythonString(n *yaml.Node) string {
	switch kindOf(n) {
	case kindBool:
		if truth(n.Value) {
			return "True"
		}
		return "False"
	case kindInt:
		return pythonInt(n.Value)
	case kindFloat:
		return pythonFloat(n.Value)
	}
	return n.Value
}

func pythonInt(s string) string {
	if len(s) > 100 { // a long one costs its length squared, and is no path
		return s
	}
	s = strings.ReplaceAll(s, "_", "")
	sign := strings.HasPrefix(s, "-")
	sum := new(big.Int)
	for part := range strings.SplitSeq(strings.TrimLeft(s, "+-"), ":") { // 1:30 is 90
		v, ok := new(big.Int).SetString(part, base(part))
		if !ok {
			return s
		}
		sum.Mul(sum, big.NewInt(60)).Add(sum, v)
	}
	if sign {
		sum.Neg(sum)
	}
	return sum.String()
}

// base: only 0x, 0b and the octal 0 say another one than ten.
func base(s string) int {
	if len(s) > 1 && s[0] == '0' {
		return 0
	}
	return 10
}

func pythonFloat(s string) string {
	v, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if err != nil || v != v || v*0 != 0 { // 1:30.5, .nan, .inf
		return s
	}
	exp := strconv.FormatFloat(v, 'e', -1, 64)
	if e, _ := strconv.Atoi(exp[strings.IndexByte(exp, 'e')+1:]); v != 0 && (e < -4 || e >= 16) {
		return exp
	}
	fixed := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(fixed, ".") {
		fixed += ".0"
	}
	return fixed
}
