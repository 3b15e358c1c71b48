import { existsSync } from "node:fs";
import { afterTestRun } from "../support/after-test-run.ts";

const TOOLS = ["/usr/sbin/ip", "/usr/sbin/iptables"];
/** A prefix reserved for benchmarks (RFC 2544), which no real host uses. */
const NETWORK = "198.18";

/** Whether this process runs as root and the required tools are installed. */
export const canUseNamespaces = process.getuid?.() === 0 && TOOLS.every((tool) => existsSync(tool));

export type Namespace = ReturnType<typeof createNamespace>;

/** Creates a network namespace with a link to this machine, on which packets can be dropped. */
export function createNamespace() {
  const number = process.pid % 16_384;
  const name = `parley-${number}`;
  const [outerLink, innerLink] = [`ph${number}`, `pn${number}`];
  // Each namespace has four addresses. The first and last ones are the network and broadcast addresses.
  const [thirdOctet, fourthOctet] = [number >> 6, (number & 63) * 4];
  const hostAddress = `${NETWORK}.${thirdOctet}.${fourthOctet + 1}`;
  const address = `${NETWORK}.${thirdOctet}.${fourthOctet + 2}`;
  const commandPrefix = ["ip", "netns", "exec", name];

  const changeDropRules = (change: "-A" | "-D", port: number) => {
    runCommand(...commandPrefix, "iptables", change, "OUTPUT", "-p", "tcp", "--dport", String(port), "-j", "DROP");
    runCommand(...commandPrefix, "iptables", change, "INPUT", "-p", "tcp", "--sport", String(port), "-j", "DROP");
  };

  runCommand("ip", "netns", "add", name);
  afterTestRun(() => void Bun.spawnSync(["ip", "netns", "del", name]));
  runCommand("ip", "link", "add", outerLink, "type", "veth", "peer", "name", innerLink, "netns", name);
  runCommand("ip", "addr", "add", `${hostAddress}/30`, "dev", outerLink);
  runCommand("ip", "link", "set", outerLink, "up");
  runCommand(...commandPrefix, "ip", "addr", "add", `${address}/30`, "dev", innerLink);
  runCommand(...commandPrefix, "ip", "link", "set", innerLink, "up");
  runCommand(...commandPrefix, "ip", "link", "set", "lo", "up");
  return {
    /** A prefix for commands that run in the namespace. */
    commandPrefix,
    /** This machine's address in the namespace's network. */
    hostAddress,
    /** The address of processes in the namespace. */
    address,
    /** Drops all packets to and from a port of this machine. Connections stay open, and neither side is notified. */
    cut: (port: number) => changeDropRules("-A", port),
    restore: (port: number) => changeDropRules("-D", port),
  };
}

function runCommand(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}
