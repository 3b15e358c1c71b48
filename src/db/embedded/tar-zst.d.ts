declare module "*.tar.zst" {
  /** Where the file lies: on disk, or inside the executable. */
  const path: string;
  export default path;
}
