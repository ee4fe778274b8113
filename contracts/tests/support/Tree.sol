// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Leaf} from "../../solidity/wallet/Signed.sol";

/// @dev The tree of payouts as the hub makes it, and as OpenZeppelin's JavaScript library does (`StandardMerkleTree` with
/// unsorted leaves): a heap whose last places are the leaves, the first leaf last, and whose inner nodes hash their two
/// children in order of size.
library Tree {
    bytes32 internal constant TAG = keccak256("sosna payout tree v1");

    function leaf(Leaf memory one) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(TAG, one.device, one.cumulative))));
    }

    function node(bytes32 left, bytes32 right) internal pure returns (bytes32) {
        return left < right ? keccak256(bytes.concat(left, right)) : keccak256(bytes.concat(right, left));
    }

    function heap(Leaf[] memory leaves) internal pure returns (bytes32[] memory all) {
        all = new bytes32[](2 * leaves.length - 1);
        for (uint256 i = 0; i < leaves.length; ++i) {
            all[all.length - 1 - i] = leaf(leaves[i]);
        }
        for (uint256 i = leaves.length - 1; i > 0; --i) {
            all[i - 1] = node(all[2 * i - 1], all[2 * i]);
        }
    }

    function root(Leaf[] memory leaves) internal pure returns (bytes32) {
        return keccak256(abi.encode(TAG, leaves.length, heap(leaves)[0]));
    }

    function sibling(uint256 place) private pure returns (uint256) {
        return place % 2 == 0 ? place - 1 : place + 1;
    }

    /// @dev The siblings from one leaf up.
    function path(Leaf[] memory leaves, uint256 index) internal pure returns (bytes32[] memory found) {
        bytes32[] memory all = heap(leaves);
        uint256 length = 0;
        for (uint256 place = all.length - 1 - index; place > 0; place = (place - 1) / 2) {
            ++length;
        }
        found = new bytes32[](length);
        length = 0;
        for (uint256 place = all.length - 1 - index; place > 0; place = (place - 1) / 2) {
            found[length++] = all[sibling(place)];
        }
    }

    /// @dev A proof of the leaves from `first` on, `count` of them.
    function range(Leaf[] memory leaves, uint256 first, uint256 count)
        internal
        pure
        returns (bytes32[] memory proof, bool[] memory flags)
    {
        bytes32[] memory all = heap(leaves);
        // Each step takes one or two places and leaves one.
        uint256[] memory queue = new uint256[](count + all.length);
        for (uint256 i = 0; i < count; ++i) {
            queue[i] = all.length - 1 - first - i;
        }
        (uint256 head, uint256 tail) = (0, count);
        bytes32[] memory proofs = new bytes32[](all.length);
        bool[] memory marks = new bool[](all.length);
        (uint256 proofLength, uint256 marksLength) = (0, 0);
        while (head < tail && queue[head] > 0) {
            uint256 place = queue[head++];
            bool isKnown = head < tail && queue[head] == sibling(place);
            if (isKnown) {
                ++head;
            } else {
                proofs[proofLength++] = all[sibling(place)];
            }
            marks[marksLength++] = isKnown;
            queue[tail++] = (place - 1) / 2;
        }
        proof = new bytes32[](proofLength);
        flags = new bool[](marksLength);
        for (uint256 i = 0; i < proofLength; ++i) {
            proof[i] = proofs[i];
        }
        for (uint256 i = 0; i < marksLength; ++i) {
            flags[i] = marks[i];
        }
    }
}
