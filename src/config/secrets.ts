import { listAddressSecrets } from "../lib/mask-address.ts";
import { type Settings, settingEntries } from "./settings.ts";

/** Everything secret that the settings hold: whole values, and what addresses bring along. */
export function listSecrets(config: Partial<Settings>): string[] {
  return settingEntries.flatMap(([name, schema]) => {
    const values = [config[name] ?? []].flat().map(String);
    return values.flatMap((value) => {
      // `name=url`, as MCP_SERVERS has it.
      const address = value.slice(Math.max(0, value.lastIndexOf("=", value.indexOf("://")) + 1));
      const isWhole = schema.secret && !schema.isAddress;
      return [...(isWhole ? [value] : []), ...(value.includes("://") ? listAddressSecrets(address) : [])];
    });
  });
}
