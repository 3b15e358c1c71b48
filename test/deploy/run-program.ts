/** Runs a program until it exits. */
export async function runProgram(command: string[], env: Record<string, string> = {}) {
  const child = Bun.spawn(command, { env, stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const output = (await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])).join("");
  return { code: await child.exited, output };
}
