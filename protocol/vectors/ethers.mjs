// Writes ethers.json: what `ethers` signs, and only if `viem` signs the very same bytes.
//
//   npm install ethers@6 viem@2   (in a folder outside of the repository)
//   cp ethers.mjs <that folder>/ && node <that folder>/ethers.mjs > ethers.json
import { readFileSync } from 'node:fs';
import { SigningKey, TypedDataEncoder, Wallet, keccak256, toUtf8Bytes } from 'ethers';
import { hashTypedData } from 'viem';
import { privateKeyToAccount, sign, serializeSignature } from 'viem/accounts';

const version = (name) =>
  JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;

const KEYS = {
  'the smallest key': '0x' + '1'.padStart(64, '0'),
  'a well-known test key': '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  'hash of a word': keccak256(toUtf8Bytes('sosna')),
  'the largest key': '0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140',
};
const field = (text) => text.split(',').map((part) => part.split(' ')).map(([type, name]) => ({ name, type }));
const TYPES = {
  Voucher: field('address device,uint256 cumulative,bytes32 receipts'),
  Receipt: field(
    'address hub,address device,bytes16 assignment,bytes16 task,bytes32 image,bytes32 result,' +
      'uint64 cpuNanoseconds,uint64 peakMemory,uint64 wallMilliseconds,uint256 price',
  ),
  Delegation: field('address hub,bytes32 secretHash,uint64 expires,uint32 uses'),
};
const fill = (byte, length) => '0x' + byte.repeat(length);
const VALUES = {
  zero: { address: fill('00', 20), bytes16: fill('00', 16), bytes32: fill('00', 32), number: () => '0' },
  usual: {
    address: '0x70997970c51812dc3a010c7d01b50e0d17dc79c8',
    bytes16: '0x000102030405060708090a0b0c0d0e0f',
    bytes32: keccak256(toUtf8Bytes('a usual value')),
    number: (bits) => ({ 32: '10', 64: '1700000000', 256: '1234567890123456789' })[bits],
  },
  largest: {
    address: fill('ff', 20),
    bytes16: fill('ff', 16),
    bytes32: fill('ff', 32),
    // An amount is bounded to 2^128 - 1, whatever the word could hold.
    number: (bits) => (2n ** BigInt(Math.min(bits, 128)) - 1n).toString(),
  },
};
const DOMAINS = {
  'without a chain': { chainId: '0', verifyingContract: '0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266' },
  'on a chain': { chainId: '31337', verifyingContract: '0x5fbdb2315678afecb367f032d93f642f64180aa3' },
  'largest numbers': { chainId: (2n ** 64n - 1n).toString(), verifyingContract: fill('ff', 20) },
};

const vectors = [];
for (const [keyName, key] of Object.entries(KEYS)) {
  const wallet = new Wallet(key);
  const account = privateKeyToAccount(key);
  const same = (what, one, other) => {
    if (one !== other) throw new Error(`${what} differ: ${one} ${other}`);
    return one;
  };
  for (const [domainName, rest] of Object.entries(DOMAINS)) {
    for (const [type, fields] of Object.entries(TYPES)) {
      for (const [valueName, value] of Object.entries(VALUES)) {
        const domain = { name: 'Sosna', version: '1', ...rest };
        const message = Object.fromEntries(
          fields.map(({ name, type }) => [name, value[type] ?? value.number(Number(type.slice('uint'.length)))]),
        );
        const types = { [type]: fields };
        const typed = { domain, types, primaryType: type, message };
        vectors.push({
          name: `${type}, ${valueName}, ${domainName}, ${keyName}`,
          key,
          address: same('addresses', wallet.address, account.address),
          type,
          domain,
          message,
          domain_separator: TypedDataEncoder.hashDomain(domain),
          struct_hash: TypedDataEncoder.from(types).hash(message),
          digest: same('digests', TypedDataEncoder.hash(domain, types, message), hashTypedData(typed)),
          signature: same(
            'signatures',
            await wallet.signTypedData(domain, types, message),
            await account.signTypedData(typed),
          ),
        });
      }
    }
  }
  for (const [name, digest] of Object.entries({
    'all zero': fill('00', 32),
    'a hash': keccak256(toUtf8Bytes('a digest')),
    'the largest below the group order': '0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140',
    'all ones, beyond the group order': fill('ff', 32),
  })) {
    vectors.push({
      name: `raw digest, ${name}, ${keyName}`,
      key,
      address: wallet.address,
      type: null,
      digest,
      signature: same(
        'signatures',
        new SigningKey(key).sign(digest).serialized,
        serializeSignature(await sign({ hash: digest, privateKey: key })),
      ),
    });
  }
}
const made_by = { ethers: version('ethers'), viem: version('viem'), node: process.versions.node };
console.log(JSON.stringify({ made_by, types: TYPES, vectors }, null, 1));
