package node

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// rulesetLines reads nftables over netlink, so that no nft binary is needed. Tables, sets and chains are in order of
// their names, elements in order of their keys, rules in their own order.
func rulesetLines() ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("tables: %w", err)
	}
	slices.SortFunc(tables, func(a, b *nftables.Table) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Name, b.Name))
	})
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("chains: %w", err)
	}
	slices.SortFunc(chains, func(a, b *nftables.Chain) int { return cmp.Compare(a.Name, b.Name) })
	var lines []string
	for _, table := range tables {
		name := tableName(table)
		lines = append(lines, "nft table "+name)
		sets, err := setLines(conn, table)
		if err != nil {
			return nil, fmt.Errorf("sets of table %s: %w", name, err)
		}
		lines = append(lines, sets...)
		for _, chain := range chains {
			if chain.Table.Name != table.Name || chain.Table.Family != table.Family {
				continue
			}
			lines = append(lines, chainLine(chain))
			rules, err := conn.GetRules(table, chain)
			if err != nil {
				return nil, fmt.Errorf("rules of chain %s %s: %w", name, chain.Name, err)
			}
			for _, rule := range rules {
				lines = append(lines, nftRuleLine(chain, rule))
			}
		}
	}
	return lines, nil
}

func setLines(conn *nftables.Conn, table *nftables.Table) ([]string, error) {
	sets, err := conn.GetSets(table)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(sets, func(a, b *nftables.Set) int { return cmp.Compare(a.Name, b.Name) })
	var lines []string
	for _, set := range sets {
		l := words{"nft set", tableName(table), set.Name, set.KeyType.Name}
		if set.IsMap {
			l.add("to", set.DataType.Name)
		}
		l.flag("interval", set.Interval)
		l.flag("constant", set.Constant)
		l.flag("timeout", set.HasTimeout)
		l.flag("dynamic", set.Dynamic)
		lines = append(lines, l.String())
		if set.Dynamic { // packets fill it, and it empties itself
			continue
		}
		elements, err := conn.GetSetElements(set)
		if err != nil {
			return nil, fmt.Errorf("elements of %s: %w", set.Name, err)
		}
		part := make([]string, len(elements))
		for i, e := range elements {
			part[i] = elementLine(set, e)
		}
		slices.Sort(part)
		lines = append(lines, part...)
	}
	return lines, nil
}

func elementLine(set *nftables.Set, e nftables.SetElement) string {
	l := words{"nft element", tableName(set.Table), set.Name, hex.EncodeToString(e.Key)}
	l.add("to", hex.EncodeToString(e.KeyEnd))
	l.flag("end", e.IntervalEnd)
	l.add("value", hex.EncodeToString(e.Val))
	if e.VerdictData != nil {
		l.add("verdict", text(reflect.ValueOf(e.VerdictData)))
	}
	if e.Comment != "" {
		l.add("comment", fmt.Sprintf("%q", e.Comment))
	}
	return l.String()
}

func chainLine(c *nftables.Chain) string {
	l := words{"nft chain", tableName(c.Table), c.Name, string(c.Type)}
	if c.Hooknum != nil {
		l = append(l, "hook", fmt.Sprint(uint32(*c.Hooknum)))
	}
	if c.Priority != nil {
		l = append(l, "priority", fmt.Sprint(int32(*c.Priority)))
	}
	if c.Policy != nil {
		l.flag("drop", *c.Policy == nftables.ChainPolicyDrop)
	}
	l.add("device", c.Device)
	return l.String()
}

func nftRuleLine(chain *nftables.Chain, rule *nftables.Rule) string {
	l := words{"nft rule", tableName(chain.Table), chain.Name}
	for _, e := range rule.Exprs {
		if _, ok := e.(*expr.Counter); ok {
			l = append(l, "Counter") // what it counted is not state
			continue
		}
		l = append(l, text(reflect.ValueOf(e)))
	}
	if comment, ok := userdata.GetString(rule.UserData, userdata.TypeComment); ok {
		l.add("comment", fmt.Sprintf("%q", comment))
	}
	return l.String()
}

var families = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
	nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev", nftables.TableFamilyBridge: "bridge",
}

func tableName(t *nftables.Table) string { return families[t.Family] + " " + t.Name }

// text writes an expression of a rule: its type and the fields that are not zero. The fmt package would print the
// address of what a field points to.
func text(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return text(v.Elem())
	case reflect.Struct:
		var fields []string
		for i := range v.NumField() {
			if f := v.Field(i); !f.IsZero() {
				fields = append(fields, v.Type().Field(i).Name+":"+text(f))
			}
		}
		return v.Type().Name() + "{" + strings.Join(fields, " ") + "}"
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return hex.EncodeToString(v.Bytes())
		}
		items := make([]string, v.Len())
		for i := range items {
			items[i] = text(v.Index(i))
		}
		return "[" + strings.Join(items, " ") + "]"
	default:
		return fmt.Sprint(v)
	}
}
