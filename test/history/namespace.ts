import { existsSync } from "node:fs";
import { atEndOfRun } from "../support/end-of-run.ts";

const TOOLS = ["/usr/sbin/ip", "/usr/sbin/iptables"];
/** The prefix of the addresses reserved for benchmarks (RFC 2544), which no real host has. */
const NETWORK = "198.18";

/** Network namespaces need root, and tools that some machines lack. */
export const hasNamespaces = process.getuid?.() === 0 && TOOLS.every((tool) => existsSync(tool));

export type Namespace = ReturnType<typeof createNamespace>;

/** A network namespace for a process, with one link to this machine on which packets can be dropped. */
export function createNamespace() {
  const number = process.pid % 16_384;
  const name = `parley-${number}`;
  const [outerLink, innerLink] = [`ph${number}`, `pn${number}`];
  // Four addresses each; the first and the last are the network's and the broadcast address.
  const [third, fourth] = [number >> 6, (number & 63) * 4];
  const hostAddress = `${NETWORK}.${third}.${fourth + 1}`;
  const address = `${NETWORK}.${third}.${fourth + 2}`;
  const inside = ["ip", "netns", "exec", name];

  const drop = (change: "-A" | "-D", port: number) => {
    run(...inside, "iptables", change, "OUTPUT", "-p", "tcp", "--dport", String(port), "-j", "DROP");
    run(...inside, "iptables", change, "INPUT", "-p", "tcp", "--sport", String(port), "-j", "DROP");
  };

  run("ip", "netns", "add", name);
  atEndOfRun(() => void Bun.spawnSync(["ip", "netns", "del", name]));
  run("ip", "link", "add", outerLink, "type", "veth", "peer", "name", innerLink, "netns", name);
  run("ip", "addr", "add", `${hostAddress}/30`, "dev", outerLink);
  run("ip", "link", "set", outerLink, "up");
  run(...inside, "ip", "addr", "add", `${address}/30`, "dev", innerLink);
  run(...inside, "ip", "link", "set", innerLink, "up");
  run(...inside, "ip", "link", "set", "lo", "up");
  return {
    /** The command prefix that runs a command inside. */
    inside,
    /** This machine's address, as seen from inside. */
    hostAddress,
    /** The address of the processes inside. */
    address,
    /** Drops all packets to and from a port of this machine: connections stay open, and neither side is notified. */
    cut: (port: number) => drop("-A", port),
    restore: (port: number) => drop("-D", port),
  };
}

function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}
