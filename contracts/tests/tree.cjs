// The tree of payouts by OpenZeppelin's own library, for comparison: reads lists of lines and says of each the top, the
// way up from every line, and a proof of some.
const { StandardMerkleTree } = require("@openzeppelin/merkle-tree");

const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
const answers = cases.map(({ tag, lines, some }) => {
  const values = lines.map(([device, cumulative]) => [tag, device, cumulative]);
  const tree = StandardMerkleTree.of(values, ["bytes32", "address", "uint256"], { sortLeaves: false });
  const { proof, proofFlags, leaves } = tree.getMultiProof(some);
  return {
    top: tree.root,
    paths: lines.map((_, index) => tree.getProof(index)),
    proof,
    flags: proofFlags,
    devices: leaves.map((leaf) => leaf[1]),
  };
});
console.log(JSON.stringify(answers));
