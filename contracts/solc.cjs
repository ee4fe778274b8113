#!/usr/bin/env node
// The compiler as forge calls it. The registries have none for this machine's processor, but npm has it as WebAssembly:
// this answers the two questions that forge asks.
const solc = require("solc");

if (process.argv.includes("--version")) {
  console.log("solc, the solidity compiler commandline interface\nVersion: " + solc.version());
} else if (process.argv.includes("--standard-json")) {
  const input = require("fs").readFileSync(0, "utf8");
  process.stdout.write(solc.compile(input));
} else {
  console.error("only --version and --standard-json");
  process.exit(2);
}
