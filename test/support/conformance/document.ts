import { readFileSync } from "node:fs";
import { join } from "node:path";
import Ajv, { type ErrorObject, type ValidateFunction } from "ajv";
import type { Json } from "../../../src/lib/json.ts";
import { closeSchemas } from "./close-schemas.ts";

const formats = {
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/,
};

/** A committed document of contract/, with the checks from its schemas. */
export function openDocument<D>(name: "openapi.json" | "asyncapi.json") {
  const read = (): D => JSON.parse(readFileSync(join(import.meta.dir, "../../../contract", name), "utf8")) as D;
  let opened: { document: D; ajv: Ajv } | undefined;
  const checks = new Map<string, ValidateFunction>();

  /** Created on first use, because many test files use no server. */
  function open() {
    if (opened) return opened;
    const document = read();
    const ajv = new Ajv({ strict: false, validateSchema: false, formats });
    ajv.addSchema({ ...(closeSchemas(document as Json) as object), $id: "document" });
    opened = { document, ajv };
    return opened;
  }

  return {
    get: (): D => open().document,

    /**
     * What is wrong with a value, as one line that begins with its JSON pointer; null if it is valid. Fields that the schema
     * doesn't name are invalid. @param path of the schema in the document, as keys.
     */
    findFault(path: readonly string[], value: unknown): string | null {
      const pointer = path.map((key) => encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");
      let check = checks.get(pointer);
      if (!check) {
        check = open().ajv.getSchema(`document#/${pointer}`);
        if (!check) throw new Error(`contract/${name} has no schema at ${path.join(" ")}.`);
        checks.set(pointer, check);
      }
      return check(value) ? null : describeErrors(check.errors ?? []);
    },
  };
}

const describeErrors = (errors: ErrorObject[]): string =>
  [...new Set(errors.slice(0, 4).map(describeError))].join("; ");

function describeError({ instancePath, keyword, params, message }: ErrorObject): string {
  const field = params.additionalProperty ?? params.missingProperty;
  const pointer = `${instancePath}${field === undefined ? "" : `/${field}`}` || "/";
  if (keyword === "additionalProperties") return `${pointer} is not documented`;
  if (keyword === "required") return `${pointer} is missing`;
  return `${pointer} ${message}${params.allowedValues ? `: ${params.allowedValues.join(", ")}` : ""}`;
}
