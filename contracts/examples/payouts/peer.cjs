// Times OpenZeppelin's own library over a list of lines, read as JSON: the tree, and all proofs of so many lines each.
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");

const [tag, most] = [process.argv[2], Number(process.argv[3])];
const lines = JSON.parse(require("fs").readFileSync(0, "utf8"));
const values = lines.map(([device, cumulative]) => [tag, device, cumulative]);
let begun = performance.now();
const tree = StandardMerkleTree.of(values, ["bytes32", "address", "uint256"], { sortLeaves: false });
const tree_ms = performance.now() - begun;
begun = performance.now();
for (let first = 0; first < lines.length; first += most) {
  const length = Math.min(most, lines.length - first);
  tree.getMultiProof(Array.from({ length }, (_, index) => first + index));
}
const proofs_ms = performance.now() - begun;
console.log(JSON.stringify({ top: tree.root, tree_ms, proofs_ms }));
