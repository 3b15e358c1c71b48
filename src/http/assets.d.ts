/** Files embedded in the executable: `import path from "…" with { type: "file" }` gives a path to read from. */
declare module "*/standalone.js" {
  const path: string;
  export default path;
}
