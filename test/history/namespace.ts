import { existsSync } from "node:fs";
import { atEndOfRun } from "../support/end-of-run.ts";

const TOOLS = ["/usr/sbin/ip", "/usr/sbin/iptables"];
/** Of the addresses for tests of networks, which nobody has. */
const NETWORK = "198.18";

/** Network namespaces need root, and tools that not every machine has. */
export const hasNamespaces = process.getuid?.() === 0 && TOOLS.every((tool) => existsSync(tool));

export type Namespace = ReturnType<typeof createNamespace>;

/** A network of its own for a process, with one link to this machine, on which packets can be dropped. */
export function createNamespace() {
  const number = process.pid % 16_384;
  const name = `parley-${number}`;
  const [here, there] = [`ph${number}`, `pn${number}`];
  // Four addresses for each; the first and the last one have meanings of their own.
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
  run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name);
  run("ip", "addr", "add", `${hostAddress}/30`, "dev", here);
  run("ip", "link", "set", here, "up");
  run(...inside, "ip", "addr", "add", `${address}/30`, "dev", there);
  run(...inside, "ip", "link", "set", there, "up");
  run(...inside, "ip", "link", "set", "lo", "up");
  return {
    /** The command before one that is to run inside. */
    inside,
    /** Of this machine, as it is reached from inside. */
    hostAddress,
    /** Of what runs inside. */
    address,
    /** Drops all packets to a port of this machine, and from it: connections stay open, and nobody is told. */
    cut: (port: number) => drop("-A", port),
    mend: (port: number) => drop("-D", port),
  };
}

function run(...command: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(command, { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr.toString()}`);
}
