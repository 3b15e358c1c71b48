import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Software in the executable that isn't an npm package with a license file. */
type BundledSoftware = {
  name: string;
  /** The license as an SPDX expression, or its usual name. */
  license: string;
  /** The file in licenses/ with the license text. Several entries may share a file. */
  licenseFile: string;
  /** The part of the executable that includes it. */
  includedIn: string;
  /** Matches its libraries in the embedded PostgreSQL packages. */
  libraries?: RegExp;
};

const inLinuxPostgres = "embedded PostgreSQL for Linux";
const inMacPostgres = "embedded PostgreSQL for macOS";
const inAnyPostgres = "embedded PostgreSQL";

const bundledSoftware: BundledSoftware[] = [
  { name: "Bun", license: "MIT and others", licenseFile: "bun.txt", includedIn: "the runtime of every executable" },
  {
    name: "JavaScriptCore and WebKit",
    license: "LGPL-2.0-or-later",
    licenseFile: "LGPL-2.txt",
    includedIn: "in Bun; see the Bun section for their source",
  },
  {
    name: "PostgreSQL",
    license: "PostgreSQL",
    licenseFile: "postgresql.txt",
    includedIn: inAnyPostgres,
    libraries: /^libpq\./,
  },
  {
    name: "OpenSSL 1.1",
    license: "OpenSSL",
    licenseFile: "openssl-1.1.txt",
    includedIn: inLinuxPostgres,
    libraries: /^lib(crypto|ssl)\.so/,
  },
  {
    name: "OpenSSL 3",
    license: "Apache-2.0",
    licenseFile: "Apache-2.0.txt",
    includedIn: `${inMacPostgres}; also the license of several libraries in Bun`,
    libraries: /^lib(crypto|ssl)\.3\.dylib/,
  },
  {
    name: "ICU",
    license: "ICU",
    licenseFile: "icu.txt",
    includedIn: `${inAnyPostgres}, and Bun`,
    libraries: /^libicu/,
  },
  { name: "zlib", license: "Zlib", licenseFile: "zlib.txt", includedIn: inAnyPostgres, libraries: /^libz\./ },
  { name: "libxml2", license: "MIT", licenseFile: "libxml2.txt", includedIn: inAnyPostgres, libraries: /^libxml2\./ },
  { name: "libxslt", license: "MIT", licenseFile: "libxslt.txt", includedIn: inLinuxPostgres, libraries: /^libxslt\./ },
  {
    name: "liblzma (XZ Utils)",
    license: "public domain",
    licenseFile: "xz.txt",
    includedIn: inLinuxPostgres,
    libraries: /^liblzma\./,
  },
  {
    name: "OSSP uuid",
    license: "MIT",
    licenseFile: "ossp-uuid.txt",
    includedIn: inLinuxPostgres,
    libraries: /^libossp-uuid\./,
  },
  { name: "lz4", license: "BSD-2-Clause", licenseFile: "lz4.txt", includedIn: inMacPostgres, libraries: /^liblz4\./ },
  {
    name: "Zstandard",
    license: "BSD-3-Clause",
    licenseFile: "zstd.txt",
    includedIn: `${inMacPostgres}, and Bun`,
    libraries: /^libzstd\./,
  },
  {
    name: "MIT Kerberos",
    license: "MIT and others",
    licenseFile: "krb5.txt",
    includedIn: inMacPostgres,
    libraries: /^lib(krb5|k5crypto|gssapi_krb5|com_err|krb5support)\./,
  },
  {
    name: "libedit",
    license: "BSD-3-Clause",
    licenseFile: "libedit.txt",
    includedIn: inMacPostgres,
    libraries: /^libedit\./,
  },
  {
    name: "libuuid (e2fsprogs)",
    license: "BSD-3-Clause",
    licenseFile: "libuuid.txt",
    includedIn: inMacPostgres,
    libraries: /^libuuid\./,
  },
  {
    name: "GNU libiconv, GNU gettext (libintl), TinyCC",
    license: "LGPL-2.1-or-later",
    licenseFile: "LGPL-2.1.txt",
    includedIn: `${inMacPostgres}, as separate files that you can replace (https://www.gnu.org/software/libiconv/ and
https://www.gnu.org/software/gettext/); TinyCC in Bun (https://github.com/tinycc/tinycc)`,
    libraries: /^lib(iconv|intl)\./,
  },
  { name: "zxcvbn-ts", license: "MIT", licenseFile: "zxcvbn-ts.txt", includedIn: "the list of common passwords" },
];

/** Creates a section for each entry: its name and license, the part that includes it, and the license text. */
export function createBundledSoftwareSections(root: string): string[] {
  return bundledSoftware.map(({ name, license, licenseFile, includedIn }) => {
    const content = readFileSync(join(root, "licenses", licenseFile), "utf8").trim();
    return `${name} (${license})\nIncluded in: ${includedIn}\n\n${content}`;
  });
}

/** Finds libraries that are packed from an embedded PostgreSQL package but have no entry above. */
export function findUnlistedLibraries(packageFolder: string): string[] {
  const libraries = readdirSync(join(packageFolder, "native/lib")).filter(
    // scripts/pack-postgres.ts leaves these out.
    (file) => /\.(so|dylib)(\.|$)/.test(file) && !/^lib(ecpg|pgtypes|pq-oauth)/.test(file),
  );
  return libraries.filter((file) => !bundledSoftware.some((software) => software.libraries?.test(file)));
}
