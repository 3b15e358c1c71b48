declare module "*.tar.zst" {
  /** The file's path, on disk or inside the executable. */
  const path: string;
  export default path;
}
