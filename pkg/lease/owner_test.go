package lease

import (
	"strings"
	"testing"
)

func TestOwnerAlias(t *testing.T) {
	id := strings.Repeat("4f", 32)
	long := strings.Repeat("x", 300)
	cutNetwork, cutID := short(long, maxNetwork), short(long, maxContainer)
	tests := []struct {
		name  string
		owner Owner
		want  string
		back  Owner // read from the alias; zero: owner itself
	}{
		{
			name:  "with its pod",
			owner: Owner{"podnet", id, "eth0", "kube-system", "dns"},
			want:  "podnet/" + id + "/eth0 kube-system/dns",
		},
		{
			name:  "no pod known",
			owner: Owner{"podnet", id, "eth0", "", ""},
			want:  "podnet/" + id + "/eth0",
		},
		{
			name:  "half a pod is none",
			owner: Owner{"podnet", id, "eth0", "", "dns"},
			want:  "podnet/" + id + "/eth0",
			back:  Owner{"podnet", id, "eth0", "", ""},
		},
		{
			name:  "pod that could not be read back",
			owner: Owner{"podnet", id, "eth0", "kube-system", "dns/1"},
			want:  "podnet/" + id + "/eth0",
			back:  Owner{"podnet", id, "eth0", "", ""},
		},
		{
			name:  "pod that would break the line",
			owner: Owner{"podnet", id, "eth0", "kube-system", "dns\n"},
			want:  "podnet/" + id + "/eth0",
			back:  Owner{"podnet", id, "eth0", "", ""},
		},
		{
			name:  "exactly 255 bytes",
			owner: Owner{"podnet", id, "eth0", "ns", long[:255-len("podnet//eth0 ns/")-64]},
			want:  "podnet/" + id + "/eth0 ns/" + long[:255-len("podnet//eth0 ns/")-64],
		},
		{
			name:  "no room for the pod",
			owner: Owner{"podnet", id, "eth0", "ns", long[:256-len("podnet//eth0 ns/")-64]},
			want:  "podnet/" + id + "/eth0",
			back:  Owner{"podnet", id, "eth0", "", ""},
		},
		{
			name:  "everything too long",
			owner: Owner{long, long, "eth0-and-15byte", "ns", "pod"},
			want:  cutNetwork + "/" + cutID + "/eth0-and-15byte",
			back:  Owner{cutNetwork, cutID, "eth0-and-15byte", "", ""},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			alias := tt.owner.Alias()
			if alias != tt.want {
				t.Errorf("got  %s\nwant %s", alias, tt.want)
			}
			if len(alias) > 255 {
				t.Errorf("%d bytes are more than the kernel's 255", len(alias))
			}
			if tt.back == (Owner{}) {
				tt.back = tt.owner
			}
			back, ok := ParseOwner(alias)
			if !ok || back != tt.back {
				t.Errorf("reads back as %+v %v\nwant %+v", back, ok, tt.back)
			}
			if back.HostName() != tt.owner.HostName() {
				t.Errorf("its host interface is %s, and read back %s", tt.owner.HostName(), back.HostName())
			}
		})
	}
}

func TestParseOwnerRefuses(t *testing.T) {
	tests := []struct{ name, alias string }{
		{"empty", ""},
		{"a human's words", "uplink to rack 3"},
		{"two parts", "podnet/c1"},
		{"four parts", "podnet/c1/eth0/x"},
		{"no network", "/c1/eth0"},
		{"no container", "podnet//eth0"},
		{"no interface", "podnet/c1/"},
		{"space at the end", "podnet/c1/eth0 "},
		{"pod without namespace", "podnet/c1/eth0 dns"},
		{"pod in three parts", "podnet/c1/eth0 ns/dns/x"},
		{"character no network has", "pod:net/c1/eth0"},
		{"network over its budget", strings.Repeat("n", 88) + "/c1/eth0"},
		{"container over its budget", "podnet/" + strings.Repeat("c", 152) + "/eth0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if o, ok := ParseOwner(tt.alias); ok {
				t.Errorf("%q reads as %+v", tt.alias, o)
			}
		})
	}
}

func TestOwns(t *testing.T) {
	long := strings.Repeat("n", 100)
	tests := []struct {
		name, alias, network string
		want                 bool
	}{
		{"its network", "podnet/c1/eth0", "podnet", true},
		{"with a pod", "podnet/c1/eth0 ns/dns", "podnet", true},
		{"network that begins like it", "podnet2/c1/eth0", "podnet", false},
		{"cut network", Owner{Network: long, ContainerID: "c1", IfName: "eth0"}.Alias(), long, true},
		{"other cut network", Owner{Network: long, ContainerID: "c1", IfName: "eth0"}.Alias(), long + "n", false},
		{"someone else's words", "podnet", "podnet", false},
		{"empty alias and network", "", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Owns(tt.alias, tt.network); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestOwnerString(t *testing.T) {
	o := Owner{Network: "podnet", ContainerID: "4f3c", IfName: "eth0"}
	if got, want := o.String(), "container 4f3c (interface eth0, network podnet)"; got != want {
		t.Errorf("without a pod: got %q, want %q", got, want)
	}
	o.PodNamespace, o.PodName = "kube-system", "dns"
	want := "pod kube-system/dns (container 4f3c, interface eth0, network podnet)"
	if got := o.String(); got != want {
		t.Errorf("with a pod: got %q, want %q", got, want)
	}
}

func FuzzOwner(f *testing.F) {
	long := strings.Repeat("n", 130)
	f.Add("podnet", "4f3c", "eth0", "kube-system", "dns", "podnet2")
	f.Add("podnet", "4f3c", "eth0", "", "", "pod")
	f.Add("a", "b", "~", "c", "", "b")
	f.Add(long, long+long, "eth0-and-15byte", "ns", "pod", long+"n")
	f.Add("podnet", long, "eth0", "ns", long, "podnet")
	f.Add("podnet", "4f3c", "eth0", "a b", "c/d", "x")
	f.Fuzz(func(t *testing.T, network, id, ifName, ns, pod, other string) {
		// What ParseOwner makes of any text, Alias writes the same again.
		if o, ok := ParseOwner(other); ok && o.Alias() != other {
			t.Errorf("%q reads as %+v, which writes %q", other, o, o.Alias())
		}
		if !nameOf.MatchString(network) || !nameOf.MatchString(id) || ifName == "" || len(ifName) > maxIfName ||
			strings.ContainsAny(ifName, "/: \t\n\v\f\r") {
			t.Skip("not valid in CNI")
		}
		o := Owner{network, id, ifName, ns, pod}
		alias := o.Alias()
		if len(alias) > 255 {
			t.Errorf("%q has %d bytes", alias, len(alias))
		}
		if !Owns(alias, network) {
			t.Errorf("%q is not of network %s", alias, network)
		}
		if other != network && nameOf.MatchString(other) && Owns(alias, other) {
			t.Errorf("%q is of network %s", alias, other)
		}
		want := Owner{short(network, maxNetwork), short(id, maxContainer), ifName, ns, pod}
		if !strings.HasSuffix(alias, "/"+ifName+" "+ns+"/"+pod) {
			want.PodNamespace, want.PodName = "", ""
		}
		if got, ok := ParseOwner(alias); !ok || got != want || got.HostName() != o.HostName() {
			t.Errorf("%q reads back as %+v %v, want %+v", alias, got, ok, want)
		}
		whole := network + "/" + id + "/" + ifName + " " + ns + "/" + pod
		if len(network) <= maxNetwork && len(id) <= maxContainer && len(whole) <= maxAlias &&
			nameOf.MatchString(ns) && nameOf.MatchString(pod) && alias != whole {
			t.Errorf("%q fits and lost something: %q", whole, alias)
		}
	})
}
