import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Software in the executable that doesn't come as a package with a license file. */
type BundledSoftware = {
  name: string;
  /** The license as an SPDX expression, or its usual name. */
  license: string;
  /** The file in licenses/ with the license text. Several entries may share a file. */
  text: string;
  /** Where it is included. */
  where: string;
  /** Its libraries in the packages of the embedded PostgreSQL. */
  libraries?: RegExp;
};

const onLinux = "embedded PostgreSQL for Linux";
const onMac = "embedded PostgreSQL for macOS";
const anywhere = "embedded PostgreSQL";

const bundledSoftware: BundledSoftware[] = [
  { name: "Bun", license: "MIT and others", text: "bun.txt", where: "the runtime of every executable" },
  {
    name: "JavaScriptCore and WebKit",
    license: "LGPL-2.0-or-later",
    text: "LGPL-2.txt",
    where: "in Bun; the section of Bun has their source",
  },
  { name: "PostgreSQL", license: "PostgreSQL", text: "postgresql.txt", where: anywhere, libraries: /^libpq\./ },
  {
    name: "OpenSSL 1.1",
    license: "OpenSSL",
    text: "openssl-1.1.txt",
    where: onLinux,
    libraries: /^lib(crypto|ssl)\.so/,
  },
  {
    name: "OpenSSL 3",
    license: "Apache-2.0",
    text: "Apache-2.0.txt",
    where: `${onMac}; also the license of several libraries in Bun`,
    libraries: /^lib(crypto|ssl)\.3\.dylib/,
  },
  { name: "ICU", license: "ICU", text: "icu.txt", where: `${anywhere}, and Bun`, libraries: /^libicu/ },
  { name: "zlib", license: "Zlib", text: "zlib.txt", where: anywhere, libraries: /^libz\./ },
  { name: "libxml2", license: "MIT", text: "libxml2.txt", where: anywhere, libraries: /^libxml2\./ },
  { name: "libxslt", license: "MIT", text: "libxslt.txt", where: onLinux, libraries: /^libxslt\./ },
  { name: "liblzma (XZ Utils)", license: "public domain", text: "xz.txt", where: onLinux, libraries: /^liblzma\./ },
  { name: "OSSP uuid", license: "MIT", text: "ossp-uuid.txt", where: onLinux, libraries: /^libossp-uuid\./ },
  { name: "lz4", license: "BSD-2-Clause", text: "lz4.txt", where: onMac, libraries: /^liblz4\./ },
  { name: "Zstandard", license: "BSD-3-Clause", text: "zstd.txt", where: `${onMac}, and Bun`, libraries: /^libzstd\./ },
  {
    name: "MIT Kerberos",
    license: "MIT and others",
    text: "krb5.txt",
    where: onMac,
    libraries: /^lib(krb5|k5crypto|gssapi_krb5|com_err|krb5support)\./,
  },
  { name: "libedit", license: "BSD-3-Clause", text: "libedit.txt", where: onMac, libraries: /^libedit\./ },
  { name: "libuuid (e2fsprogs)", license: "BSD-3-Clause", text: "libuuid.txt", where: onMac, libraries: /^libuuid\./ },
  {
    name: "GNU libiconv, GNU gettext (libintl), TinyCC",
    license: "LGPL-2.1-or-later",
    text: "LGPL-2.1.txt",
    where: `${onMac}, as separate files that you can replace (https://www.gnu.org/software/libiconv/ and
https://www.gnu.org/software/gettext/); TinyCC in Bun (https://github.com/tinycc/tinycc)`,
    libraries: /^lib(iconv|intl)\./,
  },
  { name: "zxcvbn-ts", license: "MIT", text: "zxcvbn-ts.txt", where: "the list of common passwords" },
];

/** Creates a section for each: name, license, where it is included, and the license text. */
export function listBundledSoftware(root: string): string[] {
  return bundledSoftware.map(({ name, license, text, where }) => {
    const content = readFileSync(join(root, "licenses", text), "utf8").trim();
    return `${name} (${license})\nIncluded in: ${where}\n\n${content}`;
  });
}

/** Finds libraries of an embedded PostgreSQL package that Parley packs although they have no entry above. */
export function findUnlistedLibraries(packageFolder: string): string[] {
  const libraries = readdirSync(join(packageFolder, "native/lib")).filter(
    // scripts/pack-postgres.ts leaves these out.
    (file) => /\.(so|dylib)(\.|$)/.test(file) && !/^lib(ecpg|pgtypes|pq-oauth)/.test(file),
  );
  return libraries.filter((file) => !bundledSoftware.some((software) => software.libraries?.test(file)));
}
