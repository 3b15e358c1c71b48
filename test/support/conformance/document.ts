import { readFileSync } from "node:fs";
import { join } from "node:path";
import Ajv, { type ErrorObject, type ValidateFunction } from "ajv";
import type { Json } from "../../../src/lib/json.ts";
import { disallowExtraFields } from "./disallow-extra-fields.ts";

const formats = {
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  "date-time": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/,
};

/** Loads a document from contract/, and validates values against its schemas. */
export function loadDocument<D>(name: "openapi.json" | "asyncapi.json") {
  const readDocument = (): D => JSON.parse(readFileSync(join(import.meta.dir, "../../../contract", name), "utf8")) as D;
  let loaded: { document: D; ajv: Ajv } | undefined;
  const validators = new Map<string, ValidateFunction>();

  /** Loads the document on first use, because many test files don't need it. */
  function load() {
    if (loaded) return loaded;
    const document = readDocument();
    const ajv = new Ajv({ strict: false, validateSchema: false, formats });
    ajv.addSchema({ ...(disallowExtraFields(document as Json) as object), $id: "document" });
    loaded = { document, ajv };
    return loaded;
  }

  return {
    getDocument: (): D => load().document,

    /**
     * Returns the validation errors of a value on one line, each with a JSON pointer, or null if it is valid.
     * Undocumented fields are invalid.
     * @param path The keys that lead to the schema in the document.
     */
    findError(path: readonly string[], value: unknown): string | null {
      const pointer = path.map((key) => encodeURIComponent(key.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");
      let validate = validators.get(pointer);
      if (!validate) {
        validate = load().ajv.getSchema(`document#/${pointer}`);
        if (!validate) throw new Error(`contract/${name} has no schema at ${path.join(" ")}.`);
        validators.set(pointer, validate);
      }
      return validate(value) ? null : describeErrors(validate.errors ?? []);
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
