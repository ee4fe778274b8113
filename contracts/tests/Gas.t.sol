// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Leaf, Payout, SignedVoucher} from "../solidity/wallet/Signed.sol";
import {Scene} from "./support/Scene.sol";
import {Tree} from "./support/Tree.sol";
import {vm} from "./support/Vm.sol";

/// @dev What a payment costs: whole transactions, through a clone, with lock and fee active. Run with `--isolate`, so that
/// each call is a transaction of its own; the figures are kept in `snapshots/` and compared.
contract Gas is Scene {
    string private constant GROUP = "payouts";
    uint256 private constant DEVICES = 100_000;
    uint256 private constant BATCH = 64;

    function setUp() public {
        build();
        token.transfer(address(wallet), 1_000_000 ether);
        register();
        // The relayer and the DAO hold tokens already, as they do after the first day.
        token.transfer(RELAYER, 1 ether);
        token.transfer(DAO, 1 ether);
    }

    /// @dev A root over so many leaves that the first `some` and their neighbours' hashes lead to.
    function large(uint256 some, uint256 cumulative)
        private
        pure
        returns (Leaf[] memory first, bytes32[] memory proof, bool[] memory flags, bytes32 root)
    {
        first = leaves(some, cumulative);
        bytes32 top = Tree.heap(first)[0];
        uint256 depth = 0;
        while (some << depth < DEVICES) {
            ++depth;
        }
        proof = new bytes32[](depth);
        flags = new bool[](some - 1 + depth);
        for (uint256 i = 0; i + 1 < some; ++i) {
            flags[i] = true;
        }
        for (uint256 i = 0; i < depth; ++i) {
            proof[i] = keccak256(abi.encode("neighbour", i, cumulative));
            top = Tree.node(top, proof[i]);
        }
        root = keccak256(abi.encode(Tree.TAG, DEVICES, top));
    }

    function postLarge(bytes32 root, string memory name) private {
        uint256 seen = wallet.settled();
        uint256 total = wallet.committed() + 10_000 ether;
        vm.prank(HUB);
        wallet.post(root, total, seen);
        vm.snapshotGasLastCall(GROUP, name);
        vm.warp(block.timestamp + 1 days);
    }

    /// @dev The transaction before this.
    function whole() private view returns (uint256) {
        return vm.lastCallGas().gasTotalUsed;
    }

    function each(string memory name, uint256 gas, uint256 count) private {
        vm.snapshotValue(GROUP, name, gas / count);
    }

    function test_roots_and_bulk_settlement() public {
        for (uint256 round = 0; round < 3; ++round) {
            uint256 cumulative = (round + 1) * 10 ether;
            (Leaf[] memory first, bytes32[] memory proof, bool[] memory flags, bytes32 root) = large(BATCH, cumulative);
            string[3] memory roots = ["root, first", "root, second", "root, repeat"];
            postLarge(root, roots[round]);
            vm.prank(RELAYER);
            wallet.settle(first, proof, flags, DEVICES, 0);
            uint256 gas = whole();
            string[3] memory names =
                ["multiproof of 64, each, first", "multiproof of 64, each, second", "multiproof of 64, each, repeat"];
            each(names[round], gas, BATCH);
        }
    }

    function test_bulk_settlement_to_payees_with_a_fee() public {
        for (uint256 i = 0; i < BATCH; ++i) {
            // Each owner has four devices.
            setPayee(i, address(uint160(0x7000 + i / 4)), 10);
        }
        for (uint256 round = 0; round < 2; ++round) {
            (Leaf[] memory first, bytes32[] memory proof, bool[] memory flags, bytes32 root) =
                large(BATCH, (round + 1) * 10 ether);
            postLarge(root, "root, for payees");
            vm.prank(RELAYER);
            wallet.settle(first, proof, flags, DEVICES, 10);
            uint256 gas = whole();
            each(
                round == 0 ? "multiproof of 64, 16 payees, each, first" : "multiproof of 64, 16 payees, each, repeat",
                gas,
                BATCH
            );
        }
    }

    function test_single_claims_signed_and_relayed() public {
        for (uint256 round = 0; round < 3; ++round) {
            uint256 cumulative = (round + 1) * 10 ether;
            (, bytes32[] memory proof,, bytes32 root) = large(1, cumulative);
            postLarge(root, "root, for single claims");
            (Payout memory its, bytes memory signature) = payout(0, address(0x9049), cumulative, 1 ether);
            vm.prank(RELAYER);
            wallet.claim(its, signature, proof, DEVICES, 0.1 ether);
            string[3] memory names =
                ["claim by leaf, relayed, first", "claim by leaf, relayed, second", "claim by leaf, relayed, repeat"];
            vm.snapshotGasLastCall(GROUP, names[round]);
        }
    }

    function test_single_claims_by_voucher() public {
        for (uint256 round = 0; round < 2; ++round) {
            uint256 cumulative = (round + 1) * 10 ether;
            SignedVoucher memory its = voucher(0, cumulative);
            (Payout memory out, bytes memory signature) = payout(0, address(0x9049), cumulative, 1 ether);
            vm.prank(RELAYER);
            wallet.claimVoucher(out, signature, its.voucher.receipts, its.signature, 0.1 ether);
            vm.snapshotGasLastCall(
                GROUP, round == 0 ? "claim by voucher, relayed, first" : "claim by voucher, relayed, repeat"
            );
        }
    }

    function test_vouchers() public {
        for (uint256 round = 0; round < 2; ++round) {
            SignedVoucher[] memory one = new SignedVoucher[](1);
            one[0] = voucher(200, (round + 1) * 10 ether);
            vm.prank(RELAYER);
            wallet.redeem(one, 0);
            vm.snapshotGasLastCall(GROUP, round == 0 ? "voucher, single, first" : "voucher, single, repeat");
            SignedVoucher[] memory all = new SignedVoucher[](100);
            for (uint256 i = 0; i < 100; ++i) {
                all[i] = voucher(i, (round + 1) * 10 ether);
            }
            vm.prank(RELAYER);
            wallet.redeem(all, 0);
            uint256 gas = whole();
            each(round == 0 ? "vouchers, batch of 100, each, first" : "vouchers, batch of 100, each, repeat", gas, 100);
        }
    }

    /// @dev The whitepaper's way: two transactions, and the miner needs ether for the second.
    function test_approve_and_pull() public {
        for (uint256 round = 0; round < 2; ++round) {
            vm.prank(OWNER);
            wallet.approvePayout(device(0), 10 ether);
            uint256 gas = whole();
            vm.prank(device(0));
            wallet.pull();
            gas += whole();
            vm.snapshotValue(GROUP, round == 0 ? "approve and pull, first" : "approve and pull, repeat", gas);
        }
    }
}
