package main

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// dumpNetwork prints all that can be seen of its network namespace.
func dumpNetwork([]string) {
	interfaces, err := net.Interfaces()
	must(err)
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		must(err)
		fmt.Println("interface", i.Index, i.Name, i.MTU, i.Flags, i.HardwareAddr, addresses)
	}
	for _, name := range strings.Fields("route ipv6_route fib_trie rt_cache arp igmp igmp6 if_inet6 dev_mcast anycast6 tcp tcp6 udp udp6 udplite raw raw6 icmp icmp6 packet unix " +
		"netlink ptype dev snmp6 protocols sockstat sockstat6 ip_tables_names ip6_tables_names ip_vs_conn nf_conntrack nfsfs/servers") {
		if data, err := os.ReadFile("/proc/net/" + name); err == nil {
			fmt.Printf("%s:\n%s", name, withoutAddresses(name, string(data)))
		}
	}
	must(filepath.WalkDir("/proc/sys/net", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		// These count down, or are made at random, for each namespace or the whole machine.
		for _, live := range []string{"stat_refresh", "random", "stable_secret", "tcp_fastopen_key", "tcp_mem", "udp_mem", "dev_weight", "rps_default_mask", "flush", "ip_local_reserved"} {
			if strings.Contains(name, live) {
				return nil
			}
		}
		data, err := os.ReadFile(name)
		fmt.Printf("%s: %s %v\n", name, strings.TrimSpace(string(data)), err)
		return nil
	}))
}

// withoutAddresses leaves out of tables of sockets where they are in the kernel's memory, and who asks.
func withoutAddresses(name, text string) string {
	if strings.HasPrefix(name, "sockstat") {
		_, text, _ = strings.Cut(text, "\n") // a count of the moment
	}
	if name != "netlink" && name != "unix" && name != "protocols" && name != "packet" {
		return text
	}
	var kept strings.Builder
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || name == "protocols" { // counts of the whole machine
			continue
		}
		fmt.Fprintln(&kept, strings.Join(f[1:min(4, len(f))], " "))
	}
	return kept.String()
}

// flood writes as much as it can, and leaves children behind as fast as it can, until it is killed.
func flood([]string) {
	go func() {
		for {
			// Whoever has no reader, or a full pipe, waits here.
			_, _ = os.Stdout.Write(make([]byte, 1<<16))
		}
	}()
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
	for {
		var children []int
		for range 50 {
			process, err := os.StartProcess("/attacker", []string{"attacker", "nothing"}, &os.ProcAttr{})
			if err != nil {
				break
			}
			children = append(children, process.Pid)
		}
		for _, pid := range children {
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
		time.Sleep(time.Millisecond)
	}
}
