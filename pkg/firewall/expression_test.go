package firewall

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// witness is an expression as the library writes it, which had no part in the one it is compared with.
func witness(t testing.TB, e expr.Any) expression {
	t.Helper()
	b, err := expr.Marshal(tableFamily, e)
	must(t, err)
	return decodeExpression(attribute{value: b})
}

func TestExpressions(t *testing.T) {
	const reg1, word1, word4 = unix.NFT_REG_1, unix.NFT_REG32_01, unix.NFT_REG_2
	group := func(numbers ...uint32) expr.Any {
		var info xt.Unknown // struct xt_devgroup_info
		for _, n := range numbers {
			info = append(info, native(n)...)
		}
		return &expr.Match{Name: "devgroup", Info: &info}
	}
	for name, c := range map[string]struct {
		ours   expressions
		theirs expr.Any
	}{
		"load":     {load(unix.NFT_META_OIFNAME), &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: reg1}},
		"loadAt 1": {loadAt(1, unix.NFT_META_L4PROTO), &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: word1}},
		"loadAt 4": {loadAt(4, unix.NFT_META_IIF), &expr.Meta{Key: expr.MetaKeyIIF, Register: word4}},
		"store": {
			store(unix.NFT_META_MARK), &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1, SourceRegister: true},
		},
		"loadConnection": {loadConnection(unix.NFT_CT_STATUS), &expr.Ct{Key: expr.CtKeySTATUS, Register: reg1}},
		"loadRoute to an address": {
			loadRoute(unix.NFT_FIB_RESULT_ADDRTYPE, unix.NFTA_FIB_F_DADDR),
			&expr.Fib{Register: reg1, FlagDADDR: true, ResultADDRTYPE: true},
		},
		"loadRoute back": {
			loadRoute(unix.NFT_FIB_RESULT_OIF, unix.NFTA_FIB_F_SADDR|unix.NFTA_FIB_F_IIF|unix.NFTA_FIB_F_PRESENT),
			&expr.Fib{Register: reg1, FlagSADDR: true, FlagIIF: true, ResultOIF: true, FlagPRESENT: true},
		},
		"loadHeader": {
			loadHeader(1, unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 3),
			&expr.Payload{DestRegister: word1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 3},
		},
		"address": {
			address(12, 4), &expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		},
		"keep": {keep(1, []byte{1, 2}), &expr.Bitwise{
			SourceRegister: word1, DestRegister: word1, Len: 2, Mask: []byte{1, 2}, Xor: []byte{0, 0},
		}},
		"keepAndFlip": {keepAndFlip(0, native(5), native(6)), &expr.Bitwise{
			SourceRegister: reg1, DestRegister: reg1, Len: 4, Mask: native(5), Xor: native(6),
		}},
		"equal":   {equal([]byte{2}), &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{2}}},
		"unequal": {unequal(native(3)), &expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: native(3)}},
		"in":      {in("some"), &expr.Lookup{SourceRegister: reg1, SetName: "some"}},
		"notIn":   {notIn("some"), &expr.Lookup{SourceRegister: reg1, SetName: "some", Invert: true}},
		"mapped": {
			mapped("some"), &expr.Lookup{SourceRegister: reg1, SetName: "some", IsDestRegSet: true, DestRegister: reg1},
		},
		"obeyed": {obeyed("some"), &expr.Lookup{
			SourceRegister: reg1, SetName: "some", IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT,
		}},
		"remember": {
			remember("some"), &expr.Dynset{SrcRegKey: reg1, SetName: "some", Operation: unix.NFT_DYNSET_OP_ADD},
		},
		"accept":       {accept(), &expr.Verdict{Kind: expr.VerdictAccept}},
		"drop":         {drop(), &expr.Verdict{Kind: expr.VerdictDrop}},
		"back":         {back(), &expr.Verdict{Kind: expr.VerdictReturn}},
		"jump":         {jump("there"), &expr.Verdict{Kind: expr.VerdictJump, Chain: "there"}},
		"proceed":      {proceed("there"), &expr.Verdict{Kind: expr.VerdictGoto, Chain: "there"}},
		"masquerades":  {masquerades(), &expr.Masq{}},
		"devGroup in":  {devGroup(0, 0x7000_0011), group(1, 0x7000_0011, network, 0, 0)},
		"devGroup out": {devGroup(1, 0x7000_0011), group(4, 0, 0, 0x7000_0011, network)},
		"sourceIs": {sourceIs(ipv4), &expr.NAT{
			Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: reg1, RegAddrMax: reg1,
		}},
		"destinationIs": {destinationIs(ipv6), &expr.NAT{
			Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV6, RegAddrMin: reg1, RegAddrMax: reg1,
			RegProtoMin: word4, RegProtoMax: word4, Specified: true,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			want := witness(t, c.theirs)
			if len(c.ours) != 1 || c.ours[0].name != want.name {
				t.Fatalf("got %v, want one %q", c.ours, want.name)
			}
			read, ok := reflect.New(reflect.TypeOf(c.theirs).Elem()).Interface().(expr.Any)
			if !ok {
				t.Fatalf("%T is no expression", c.theirs)
			}
			must(t, expr.Unmarshal(tableFamily, c.ours[0].data, read))
			if !reflect.DeepEqual(read, c.theirs) {
				t.Errorf("the library reads %+v, want %+v", read, c.theirs)
			}
			// What it cannot read it would leave out. It writes all that we do, but for a flag that the kernel adds.
			if want.name != "nat" && !sameExpressions(c.ours, expressions{want}) {
				t.Errorf("got  %x\nwant %x", c.ours[0].data, want.data)
			}
		})
	}
}

// Nothing that the rules are made of changes when something else is made of it, too.
func TestThenCopies(t *testing.T) {
	start := append(make(expressions, 0, 9), accept().then(drop())...)
	one, other := start.then(jump("one")), start.then(jump("other"))
	for want, got := range map[string]expressions{"one": one, "other": other} {
		if !sameExpressions(got, accept().then(drop(), jump(want))) {
			t.Errorf("%s: %v", want, got)
		}
	}
}

func TestSameExpressions(t *testing.T) {
	with := func(e expressions, more func(*encoder)) expressions {
		w := encoder{bytes: bytes.Clone(e[0].data)}
		more(&w)
		return expressions{{e[0].name, w.bytes}}
	}
	const unheardof = 99
	for name, c := range map[string]struct {
		want, have expressions
		same       bool
	}{
		"the same":                {masquerade(ipv4), masquerade(ipv4), true},
		"one more":                {masquerade(ipv4), masquerade(ipv4).then(expressions{{name: "unheardof"}}), false},
		"one less":                {masquerade(ipv4), masquerade(ipv4)[:3], false},
		"none":                    {masquerade(ipv4), nil, false},
		"in another order":        {accept().then(drop()), drop().then(accept()), false},
		"another kind":            {masquerades(), expressions{{name: "redir"}}, false},
		"unreadable":              {masquerades(), expressions{{"masq", []byte{1, 2, 3}}}, false},
		"unreadable inside":       {accept(), with(expressions{{name: "immediate"}}, cut), false},
		"inverted":                {in("some"), notIn("some"), false},
		"not inverted":            {notIn("some"), in("some"), false},
		"another set":             {in("some"), in("something"), false},
		"another register":        {load(1), loadAt(1, 1), false},
		"stored":                  {load(1), store(1), false},
		"another key":             {load(1), load(2), false},
		"another verdict":         {accept(), drop(), false},
		"jump for goto":           {proceed("some"), jump("some"), false},
		"another chain":           {jump("some"), jump("other"), false},
		"a chain for a verdict":   {back(), jump("some"), false},
		"another comparison":      {equal(native(0)), unequal(native(0)), false},
		"other data":              {equal(native(1)), equal(native(2)), false},
		"longer data":             {equal([]byte{1}), equal([]byte{1, 0}), false},
		"another mask":            {keep(0, native(1)), keep(0, native(2)), false},
		"flipped":                 {keep(0, native(1)), keepAndFlip(0, native(1), native(4)), false},
		"a set for a verdict map": {obeyed("some"), in("some"), false},
		"a map for a verdict map": {obeyed("some"), mapped("some"), false},
		"other info":              {devGroup(0, 1), devGroup(0, 2), false},
		"info filled up":          {devGroup(0, 1), filledUp(devGroup(0, 1), 0, 0, 0, 0), true},
		"info with more":          {devGroup(0, 1), filledUp(devGroup(0, 1), 0, 0, 0, 1), false},
		"info of another size":    {devGroup(0, 1), filledUp(devGroup(0, 1), 0, 0, 0, 0, 0, 0, 0, 0), false},
		"data filled up":          {equal(native(1)), equal(append(native(1), 0, 0, 0, 0)), false},
		"a default": {
			in("some"), with(in("some"), func(w *encoder) { w.uint32(unix.NFTA_LOOKUP_FLAGS, 0) }), true,
		},
		"a default of 64 bit, filled up": {remember("some"), with(remember("some"), func(w *encoder) {
			w.value(unix.NFTA_DYNSET_PAD, nil)
			w.uint64(unix.NFTA_DYNSET_TIMEOUT, 0)
		}), true},
		"unheard of": {
			in("some"), with(in("some"), func(w *encoder) { w.uint32(unheardof, 1) }), false,
		},
		"unheard of, a default": {in("some"), with(in("some"), func(w *encoder) { w.uint32(unheardof, 0) }), true},
		"masquerade with a flag": {
			masquerades(), with(masquerades(), func(w *encoder) { w.uint32(unix.NFTA_MASQ_FLAGS, 4) }), false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := addRule(chain{}, rule{exprs: c.have}) // as it would be listed
			r, err := decodeRule(answer{data: m.data})
			must(t, err)
			if got := sameExpressions(c.want, r.exprs); got != c.same {
				t.Errorf("same: %v, want %v", got, c.same)
			}
		})
	}
}

// The kernel lists what was sent so that it is still the same. What it adds differs from one version to the next, so
// this is for other kernels, too (test/vm), and needs no nft.
func TestListedAsSent(t *testing.T) {
	f := fresh(t)
	for name, p := range map[string]part{
		"masquerading": masquerading(), "sourceChecking": sourceChecking(), "ingress": ingress(),
		"portIngress": portIngress(), "hostPorts": hostPorts(),
	} {
		_, err := f.applyPart(p)
		must(t, err)
		s, err := f.observe(query{part: p})
		must(t, err)
		for _, d := range s.defects() {
			t.Errorf("%s: %s", name, d.what)
		}
	}
}

// cut writes an accept whose verdict is cut off.
func cut(w *encoder) {
	w.uint32(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
	w.value(unix.NFTA_IMMEDIATE_DATA|unix.NLA_F_NESTED, []byte{8, 0, 1})
}

// filledUp is a match as a kernel lists it that aligns structures to more bytes.
func filledUp(match expressions, fill ...byte) expressions {
	return express("match", func(w *encoder) {
		nested(attribute{value: match[0].data}, func(a attribute) {
			if a.kind == unix.NFTA_MATCH_INFO {
				a.value = append(slices.Clone(a.value), fill...)
			}
			w.value(a.kind, a.value)
		})
	})
}

func TestUserdata(t *testing.T) {
	var w encoder
	w.comment(1, "podnet")
	written := func(visit func(attribute)) { must(t, attribute{value: w.bytes}.attributes(visit)) }
	written(func(a attribute) {
		if got, ok := userdata.GetString(a.value, userdata.TypeComment); !ok || got != "podnet" {
			t.Errorf("the library reads the comment %q", got)
		}
	})
	read := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_ELEM_FLAGS, 1)
	read = userdata.AppendString(read, userdata.TypeComment, "lab")
	if got := comment(read); got != "lab" {
		t.Errorf("read the comment %q", got)
	}
	for n := range read {
		if got := comment(read[:n]); got != "" {
			t.Errorf("cut off after %d bytes: %q", n, got)
		}
	}
	const host, network = 1, 2 // enum byteorder of nft
	// The library reads numbers as on amd64, nft as the machine has them.
	natively := func(n uint32) uint32 { return binary.NativeEndian.Uint32(binary.LittleEndian.AppendUint32(nil, n)) }
	for _, c := range []struct {
		set       set
		key, data uint32
	}{
		{set{key: typeIFName}, host, 0},
		{set{key: concatenation(typeIFName, typeIFName)}, network, 0},
		{set{key: typeIPAddr, data: typeVerdict}, network, network},
	} {
		m := addSet(c.set, 1)
		must(t, attributes(answer{data: m.data}, func(a attribute) {
			if a.kind != unix.NFTA_SET_USERDATA {
				return
			}
			key, _ := userdata.GetUint32(a.value, userdata.NFTNL_UDATA_SET_KEYBYTEORDER)
			data, _ := userdata.GetUint32(a.value, userdata.NFTNL_UDATA_SET_DATABYTEORDER)
			if key, data = natively(key), natively(data); key != c.key || data != c.data {
				t.Errorf("%s: byte orders %d and %d, want %d and %d", c.set, key, data, c.key, c.data)
			}
		}))
	}
}

// What rules of others do to every packet, as iptables and nft write them.
func TestAlways(t *testing.T) {
	note := xt.Comment("whose it is")
	remarked := &expr.Match{Name: "comment", Info: &note}
	nothing := xt.Unknown{0, 0, 0, 0, 0, 0, 0, 0}
	for name, c := range map[string]struct {
		rule []expr.Any
		want verdict
	}{
		"accept":        {[]expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}, passes},
		"drop":          {[]expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, refuses},
		"reject":        {[]expr.Any{&expr.Reject{}}, refuses},
		"return":        {[]expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}, undecided},
		"jump":          {[]expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: "there"}}, undecided},
		"loads only":    {[]expr.Any{&expr.Immediate{Register: unix.NFT_REG_1, Data: native(0)}}, undecided},
		"target DROP":   {[]expr.Any{&expr.Target{Name: "DROP", Info: &nothing}}, refuses},
		"target REJECT": {[]expr.Any{&expr.Target{Name: "REJECT", Info: &nothing}}, refuses},
		"target LOG":    {[]expr.Any{&expr.Target{Name: "LOG", Info: &nothing}}, undecided},
		"remarked":      {[]expr.Any{remarked, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}, refuses},
		"another match": {
			[]expr.Any{&expr.Match{Name: "x", Info: &note}, &expr.Verdict{Kind: expr.VerdictDrop}}, undecided,
		},
		"some packets":     {[]expr.Any{&expr.Meta{Register: 1}, &expr.Verdict{Kind: expr.VerdictDrop}}, undecided},
		"nothing":          {nil, undecided},
		"only its comment": {[]expr.Any{remarked}, undecided},
	} {
		var r listedRule
		for _, e := range c.rule {
			r.exprs = append(r.exprs, witness(t, e))
		}
		if got := r.always(); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	if got := remark(witness(t, remarked)); got != "whose it is" {
		t.Errorf("the remark is %q", got)
	}
}
