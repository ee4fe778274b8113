// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {MOST_PAID} from "../solidity/wallet/Account.sol";
import {Books} from "../solidity/wallet/Books.sol";
import {Claims} from "../solidity/wallet/Claims.sol";
import {HubWallet} from "../solidity/wallet/HubWallet.sol";
import {Leaf, Payee, Payout, SignedVoucher, hashPayee, hashPayout} from "../solidity/wallet/Signed.sol";
import {Scene} from "./support/Scene.sol";
import {Tree} from "./support/Tree.sol";
import {vm} from "./support/Vm.sol";

/// @dev The three ways to be paid, that they share one record, and all that is refused.
contract HubWalletClaims is Scene {
    address private constant PURSE = address(0x9049);

    function setUp() public {
        build();
        register();
    }

    function balance(address who) private view returns (uint256) {
        return token.balanceOf(who);
    }

    // --- roots

    function test_a_root_commits_locks_and_can_be_claimed_by_after_its_delay() public {
        Leaf[] memory all = leaves(5, 10 ether);
        post(all);
        assertEq(wallet.committed(), 50 ether, "committed");
        assertEq(wallet.locked(), 15 ether, "locked");
        assertEq(wallet.free(), 1000 ether - 1 ether - 15 ether - 50 ether, "free");
        (bytes32 newest, uint256 activeAt, bytes32 before) = wallet.roots();
        assertEq(newest, Tree.root(all), "the newest");
        assertEq(activeAt, block.timestamp + 24 hours, "its delay");
        assertEq(before, 0, "there was none");
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(all, 0, 5);
        vm.warp(activeAt - 1);
        vm.expectRevert(abi.encodeWithSelector(Books.NoSuchRoot.selector, newest));
        wallet.settle(all, proof, flags, 5, 0);
        vm.warp(activeAt);
        settle(all, 0, 5, 0);
        for (uint256 i = 0; i < 5; ++i) {
            assertEq(balance(device(i)), 10 ether, "paid in full: the lock is the hub's own");
        }
        assertEq(wallet.locked(), 15 ether, "locked until payday");
        assertCovered();
        // Again: passed over.
        settle(all, 0, 5, 0);
        assertEq(wallet.paid(), 50 ether, "once");
    }

    function test_the_root_before_can_be_claimed_by_until_the_newest_can() public {
        Leaf[] memory first = leaves(3, 10 ether);
        Leaf[] memory second = leaves(4, 20 ether);
        postAndWait(first);
        post(second);
        settle(first, 0, 2, 0);
        assertEq(balance(device(1)), 10 ether, "by the root before");
        (, uint256 activeAt,) = wallet.roots();
        // No third one yet: the first would be gone, and nothing could be claimed by.
        vm.prank(HUB);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.TooEarly.selector, activeAt));
        wallet.post(bytes32(uint256(1)), 100 ether, 0);
        vm.warp(activeAt);
        settle(second, 0, 4, 0);
        assertEq(balance(device(1)), 20 ether, "in all");
        settle(first, 0, 3, 0);
        assertEq(balance(device(2)), 20 ether, "and no more");
        assertEq(wallet.paid(), wallet.committed(), "nothing is left");
    }

    function test_a_root_that_is_posted_again_can_be_claimed_by_meanwhile() public {
        Leaf[] memory all = leaves(2, 10 ether);
        postAndWait(all);
        post(all);
        settle(all, 0, 2, 0);
        assertEq(wallet.paid(), 20 ether, "paid");
    }

    function test_a_root_needs_funds_for_its_lock_too() public {
        // 768.46 + 30 % + 1 SNM frozen is the balance.
        uint256 most = uint256(999 ether) * 100 / 130;
        Leaf[] memory all = leaves(1, most);
        post(all);
        vm.warp(block.timestamp + 1 days);
        all[0].cumulative = most + 1;
        bytes32 root = Tree.root(all);
        vm.prank(HUB);
        vm.expectRevert(
            abi.encodeWithSelector(
                Books.Underfunded.selector, 1 ether + most + 1 + (most + 1) * 30 / 100 + 1, 1000 ether
            )
        );
        wallet.post(root, most + 1, 0);
    }

    function test_what_was_paid_while_the_hub_counted_is_committed_once() public {
        redeem(0, 10 ether);
        uint256 seen = wallet.settled();
        Leaf[] memory all = leaves(2, 30 ether);
        // After the hub has counted, and before its root is there.
        redeem(0, 15 ether);
        bytes32 root = Tree.root(all);
        vm.prank(HUB);
        wallet.post(root, 60 ether, seen);
        assertEq(wallet.committed() - wallet.paid(), 50 ether, "what the hub knew to be owed");
        vm.warp(block.timestamp + 1 days);
        settle(all, 0, 2, 0);
        assertEq(balance(device(0)), 30 ether, "in all");
        assertEq(balance(device(1)), 30 ether, "in all");
        assertCovered();
    }

    function test_a_root_that_promises_more_than_its_total_is_paid_from_what_is_free() public {
        Leaf[] memory all = leaves(2, 100 ether);
        bytes32 root = Tree.root(all);
        vm.prank(HUB);
        wallet.post(root, 1 ether, 0);
        vm.warp(block.timestamp + 1 days);
        settle(all, 0, 2, 0);
        assertEq(wallet.committed(), 200 ether, "committed by being claimed");
        assertEq(wallet.locked(), 60 ether, "and locked for");
        assertCovered();
    }

    function test_a_suspected_hub_pays_no_more_than_it_committed() public {
        Leaf[] memory all = leaves(2, 100 ether);
        bytes32 root = Tree.root(all);
        vm.prank(HUB);
        wallet.post(root, 100 ether, 0);
        vm.warp(block.timestamp + 1 days);
        suspect();
        settle(all, 0, 1, 0);
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(all, 1, 1);
        Leaf[] memory second = new Leaf[](1);
        second[0] = all[1];
        vm.expectRevert(abi.encodeWithSelector(Books.WrongPhase.selector, 3));
        wallet.settle(second, proof, flags, 2, 0);
    }

    function test_a_suspicion_voids_the_root_that_is_not_active_yet() public {
        Leaf[] memory honest = leaves(3, 10 ether);
        Leaf[] memory greedy = leaves(4, 100 ether);
        postAndWait(honest);
        post(greedy);
        redeem(3, 5 ether);
        assertEq(wallet.committed(), 405 ether, "with the second root, and a voucher since");
        suspect();
        assertEq(wallet.committed(), 35 ether, "without it");
        vm.warp(block.timestamp + 2 days);
        settle(honest, 0, 3, 0);
        assertEq(balance(device(0)), 10 ether, "what was committed before is honoured");
        bytes32 root = Tree.root(greedy);
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(greedy, 0, 4);
        vm.expectRevert(abi.encodeWithSelector(Books.NoSuchRoot.selector, root));
        wallet.settle(greedy, proof, flags, 4, 0);
        assertCovered();
    }

    /// @dev The root is posted in one period and voided in the next: what the new period counts its lock from shrinks too.
    function test_a_root_can_be_voided_after_the_period_it_was_posted_in() public {
        vm.warp(wallet.paydayAt() - 1 hours);
        post(leaves(4, 100 ether));
        endPeriod();
        register();
        suspect();
        assertEq(wallet.committed(), 0, "voided");
        assertEq(wallet.locked(), 0, "nothing is locked for it");
        assertCovered();
    }

    function test_totals_that_cannot_be_are_refused() public {
        redeem(0, 10 ether);
        vm.prank(HUB);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.TotalTooSmall.selector, 10 ether, 11 ether));
        wallet.post(bytes32(uint256(1)), 20 ether, 11 ether);
        vm.prank(HUB);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.TotalTooSmall.selector, 9 ether, 10 ether));
        wallet.post(bytes32(uint256(1)), 9 ether, 10 ether);
        vm.prank(HUB);
        vm.expectRevert(abi.encodeWithSelector(Books.NoSuchRoot.selector, 0));
        wallet.post(0, 10 ether, 10 ether);
    }

    function testFuzz_any_range_of_any_tree_is_proven(uint8 count, uint8 first, uint8 length, uint96 amount) public {
        uint256 devices = bound(count, 1, 40);
        uint256 from = bound(first, 0, devices - 1);
        uint256 some = bound(length, 1, devices - from);
        uint256 each = bound(amount, 1, 10 ether);
        Leaf[] memory all = leaves(devices, each);
        postAndWait(all);
        settle(all, from, some, 0);
        for (uint256 i = 0; i < devices; ++i) {
            assertEq(balance(device(i)), i >= from && i < from + some ? each : 0, "those and no others");
        }
        assertCovered();
    }

    function testFuzz_a_wrong_amount_is_not_in_the_tree(uint8 count, uint8 which, uint96 amount) public {
        uint256 devices = bound(count, 1, 20);
        uint256 one = bound(which, 0, devices - 1);
        Leaf[] memory all = leaves(devices, 10 ether);
        postAndWait(all);
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(all, one, 1);
        Leaf[] memory wrong = new Leaf[](1);
        wrong[0] = Leaf(device(one), uint256(amount) == 10 ether ? 1 : uint256(amount));
        try wallet.settle(wrong, proof, flags, devices, 0) {
            assertTrue(false, "it was paid");
        } catch (bytes memory reason) {
            assertEq(bytes32(bytes4(reason)), bytes32(Books.NoSuchRoot.selector), "why not");
        }
        // Nor is the same leaf in a tree of another size.
        (proof, flags) = Tree.range(all, 0, devices);
        vm.expectPartialRevert(Books.NoSuchRoot.selector);
        wallet.settle(all, proof, flags, devices + 1, 0);
    }

    // --- vouchers

    function test_a_voucher_is_paid_from_what_is_free_and_locks() public {
        redeem(0, 10 ether);
        redeem(0, 25 ether);
        assertEq(balance(device(0)), 25 ether, "cumulative");
        assertEq(wallet.committed(), 25 ether, "committed");
        assertEq(wallet.locked(), 7.5 ether, "locked");
        redeem(0, 10 ether);
        assertEq(balance(device(0)), 25 ether, "an old one pays nothing");
    }

    /// @dev A hub that signs itself all it has does not get what others were promised.
    function test_vouchers_cannot_take_what_a_root_has_committed() public {
        postAndWait(leaves(5, 100 ether));
        SignedVoucher[] memory one = new SignedVoucher[](1);
        // 1000 - 1 - 650 are free; the voucher needs its lock besides.
        one[0] = voucher(9, 349 ether);
        vm.expectRevert(
            abi.encodeWithSelector(
                Books.Underfunded.selector, 1 ether + uint256(849 ether) * 30 / 100 + 849 ether, 1000 ether
            )
        );
        wallet.redeem(one, 0);
        settle(leaves(5, 100 ether), 0, 5, 0);
    }

    function test_settled_first_a_voucher_commits_only_the_rest() public {
        Leaf[] memory all = leaves(1, 100 ether);
        postAndWait(all);
        SignedVoucher[] memory one = new SignedVoucher[](1);
        one[0] = voucher(0, 130 ether);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(wallet.settle, (all, new bytes32[](0), new bool[](0), 1, 0));
        calls[1] = abi.encodeCall(wallet.redeem, (one, 0));
        wallet.multicall(calls);
        assertEq(balance(device(0)), 130 ether, "both");
        assertEq(wallet.committed(), 130 ether, "once");
    }

    function test_a_voucher_that_the_hub_did_not_sign_is_refused() public {
        SignedVoucher[] memory one = new SignedVoucher[](1);
        one[0] = voucher(0, 10 ether);
        one[0].voucher.cumulative = 11 ether;
        vm.expectPartialRevert(Claims.WrongSigner.selector);
        wallet.redeem(one, 0);
        one[0] = voucher(0, MOST_PAID + 1);
        vm.expectRevert(abi.encodeWithSelector(Claims.TooMuch.selector, MOST_PAID + 1));
        wallet.redeem(one, 0);
    }

    function test_a_voucher_of_another_wallet_of_the_hub_is_refused() public {
        SignedVoucher[] memory one = new SignedVoucher[](1);
        one[0] = voucher(0, 10 ether);
        vm.prank(OWNER);
        HubWallet other = factory.create(HUB);
        token.transfer(address(other), 100 ether);
        vm.prank(OWNER);
        other.register();
        vm.expectPartialRevert(Claims.WrongSigner.selector);
        other.redeem(one, 0);
    }

    function test_vouchers_are_paid_between_periods_too_and_lock_nothing() public {
        endPeriod();
        redeem(0, 10 ether);
        assertEq(balance(device(0)), 10 ether, "paid");
        assertEq(wallet.locked(), 0, "no period, no lock");
        vm.prank(OWNER);
        wallet.withdraw(OWNER, 990 ether);
    }

    function test_many_vouchers_to_one_purse_are_one_transfer() public {
        SignedVoucher[] memory all = new SignedVoucher[](3);
        for (uint256 i = 0; i < 3; ++i) {
            setPayee(i, PURSE, 0);
            all[i] = voucher(i, 10 ether);
        }
        wallet.redeem(all, 0);
        assertEq(balance(PURSE), 30 ether, "together");
    }

    // --- single claims

    function test_a_device_signs_where_to_and_anybody_brings_it_for_a_fee() public {
        Leaf[] memory all = leaves(3, 10 ether);
        postAndWait(all);
        (Payout memory its, bytes memory signature) = payout(1, PURSE, 10 ether, 0.1 ether);
        bytes32[] memory proof = Tree.path(all, 1);
        vm.prank(RELAYER);
        vm.expectRevert(abi.encodeWithSelector(Claims.FeeTooHigh.selector, 0.1 ether + 1, 0.1 ether));
        wallet.claim(its, signature, proof, 3, 0.1 ether + 1);
        vm.prank(RELAYER);
        wallet.claim(its, signature, proof, 3, 0.1 ether);
        assertEq(balance(PURSE), 9.9 ether, "the rest");
        assertEq(balance(RELAYER), 0.1 ether, "the fee");
        vm.expectRevert(abi.encodeWithSelector(Claims.AlreadyPaid.selector, device(1), 10 ether));
        wallet.claim(its, signature, proof, 3, 0);
    }

    function test_a_device_with_gas_of_its_own_needs_no_signature() public {
        Leaf[] memory all = leaves(2, 10 ether);
        postAndWait(all);
        (Payout memory its,) = payout(0, PURSE, 10 ether, 0);
        bytes32[] memory proof = Tree.path(all, 0);
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureLength.selector, 0));
        wallet.claim(its, "", proof, 2, 0);
        vm.prank(device(0));
        wallet.claim(its, "", proof, 2, 0);
        assertEq(balance(PURSE), 10 ether, "paid");
    }

    function test_a_voucher_is_claimed_with_both_signatures() public {
        SignedVoucher memory its = voucher(0, 10 ether);
        (Payout memory out, bytes memory signature) = payout(0, PURSE, 10 ether, 1 ether);
        vm.prank(RELAYER);
        wallet.claimVoucher(out, signature, its.voucher.receipts, its.signature, 1 ether);
        assertEq(balance(PURSE) + balance(RELAYER), 10 ether, "all of it");
        assertEq(wallet.committed(), 10 ether, "committed");
        (out, signature) = payout(0, PURSE, 11 ether, 0);
        vm.expectPartialRevert(Claims.WrongSigner.selector);
        wallet.claimVoucher(out, signature, its.voucher.receipts, its.signature, 0);
    }

    function test_a_signature_is_good_for_one_wallet_one_chain_one_time() public {
        Leaf[] memory all = leaves(1, 10 ether);
        postAndWait(all);
        (Payout memory its, bytes memory signature) = payout(0, PURSE, 10 ether, 0);
        bytes32[] memory none = new bytes32[](0);
        its.to = RELAYER;
        vm.expectPartialRevert(Claims.WrongSigner.selector);
        wallet.claim(its, signature, none, 1, 0);
        its.to = address(0);
        vm.expectRevert(Claims.NoPayee.selector);
        wallet.claim(its, signature, none, 1, 0);
        (its, signature) = payout(0, PURSE, 10 ether, 0);
        its.wallet = address(this);
        vm.expectRevert(abi.encodeWithSelector(Claims.WrongWallet.selector, address(this)));
        wallet.claim(its, signature, none, 1, 0);
        its.wallet = address(wallet);
        vm.warp(its.deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(Claims.Expired.selector, its.deadline));
        wallet.claim(its, signature, none, 1, 0);
    }

    function test_the_other_signature_of_the_same_key_is_refused() public {
        Leaf[] memory all = leaves(1, 10 ether);
        postAndWait(all);
        (Payout memory its, bytes memory signature) = payout(0, PURSE, 10 ether, 0);
        (bytes32 r, bytes32 s, uint8 v) = (0, 0, uint8(signature[64]));
        assembly {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
        }
        // The order of the curve less s is as good to the curve, and would be a second signature.
        s = bytes32(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141 - uint256(s));
        bytes memory other = abi.encodePacked(r, s, v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(abi.encodeWithSelector(ECDSA.ECDSAInvalidSignatureS.selector, s));
        wallet.claim(its, other, new bytes32[](0), 1, 0);
    }

    // --- payees

    function test_a_device_says_to_whom_and_for_how_much_it_is_settled_in_bulk() public {
        setPayee(0, PURSE, 20);
        setPayee(1, PURSE, 0);
        Leaf[] memory all = leaves(3, 10 ether);
        postAndWait(all);
        // The relayer wants 5 %: it gets 2 % of the first, and nothing of those who did not agree.
        settle(all, 0, 3, 50);
        assertEq(balance(PURSE), 19.8 ether, "the purse");
        assertEq(balance(device(2)), 10 ether, "the device itself");
        assertEq(balance(RELAYER), 0.2 ether, "the relayer");
        (uint256 paid, address payee, uint256 share) = wallet.accountOf(device(0));
        assertEq(paid, 10 ether, "with the fee");
        assertEq(payee, PURSE, "payee");
        assertEq(share, 20, "share");
        (, payee,) = wallet.accountOf(device(2));
        assertEq(payee, device(2), "itself where it has named nobody");
    }

    function test_a_payee_is_named_by_the_device_in_order() public {
        Payee memory its = Payee(device(0), PURSE, 0, 0, block.timestamp);
        bytes memory signature = signed(key(1), hashPayee(its), wallet.domain());
        vm.expectPartialRevert(Claims.WrongSigner.selector);
        wallet.setPayee(its, signature);
        signature = signed(key(0), hashPayee(its), wallet.domain());
        wallet.setPayee(its, signature);
        // It moves on, and the first cannot be brought back.
        setPayee(0, RELAYER, 0);
        vm.expectRevert(abi.encodeWithSelector(Claims.WrongNonce.selector, 0, 2));
        wallet.setPayee(its, signature);
        its = Payee(device(0), PURSE, 101, 2, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(Claims.FeeTooHigh.selector, 101, 100));
        wallet.setPayee(its, "");
        its = Payee(device(0), address(0), 0, 2, block.timestamp);
        vm.expectRevert(Claims.NoPayee.selector);
        wallet.setPayee(its, "");
        its = Payee(device(0), PURSE, 0, 2, block.timestamp - 1);
        vm.expectRevert(abi.encodeWithSelector(Claims.Expired.selector, block.timestamp - 1));
        wallet.setPayee(its, "");
    }

    // --- the whitepaper's way

    function test_the_owner_approves_and_the_miner_pulls() public {
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        assertEq(balance(device(0)), 0, "not yet");
        assertEq(wallet.committed(), 100 ether, "committed");
        assertEq(wallet.locked(), 30 ether, "locked");
        vm.prank(device(0));
        wallet.pull();
        assertEq(balance(device(0)), 100 ether, "in full");
        vm.prank(device(0));
        vm.expectPartialRevert(Claims.AlreadyPaid.selector);
        wallet.pull();
        vm.prank(OWNER);
        vm.expectRevert(Claims.NoPayee.selector);
        wallet.approvePayout(address(0), 1);
    }

    function test_a_root_with_too_small_a_total_does_not_take_what_was_approved() public {
        Leaf[] memory all = leaves(1, 500 ether);
        bytes32 root = Tree.root(all);
        vm.prank(HUB);
        wallet.post(root, 1 ether, 0);
        vm.prank(OWNER);
        wallet.approvePayout(device(1), 500 ether);
        vm.warp(block.timestamp + 1 days);
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(all, 0, 1);
        vm.expectPartialRevert(Books.Underfunded.selector);
        wallet.settle(all, proof, flags, 1, 0);
        vm.prank(device(1));
        wallet.pull();
        assertEq(balance(device(1)), 500 ether, "what was approved");
    }

    function test_payday_gives_the_dao_its_fee_of_what_was_locked() public {
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        endPeriod();
        // 5 thousandths of 30 SNM.
        assertEq(balance(DAO), 0.15 ether, "the fee");
        assertEq(wallet.locked() + wallet.frozen(), 0, "free");
        assertCovered();
    }

    function testFuzz_the_lock_is_exact_however_it_comes_together(uint64[20] memory amounts, uint8 percent) public {
        uint256 lock = bound(percent, 0, 100);
        endPeriod();
        setTerms(terms(uint8(lock), 5));
        register();
        uint256 sum = 0;
        for (uint256 i = 0; i < amounts.length; ++i) {
            vm.prank(OWNER);
            wallet.approvePayout(device(i), amounts[i]);
            sum += amounts[i];
        }
        assertEq(wallet.locked(), (sum * lock + 99) / 100, "of the sum, rounded once");
        assertCovered();
    }
}
