// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Terms} from "../solidity/dao/Terms.sol";
import {Books} from "../solidity/wallet/Books.sol";
import {HubWallet} from "../solidity/wallet/HubWallet.sol";
import {Phase} from "../solidity/wallet/Phase.sol";
import {SignedVoucher} from "../solidity/wallet/Signed.sol";
import {Scene} from "./support/Scene.sol";
import {vm} from "./support/Vm.sol";

/// @dev Every way from a phase to another, and that there is no other.
contract HubWalletPhases is Scene {
    function setUp() public {
        build();
    }

    function assertPhase(Phase expected) private view {
        assertEq(uint256(wallet.phase()), uint256(expected), "phase");
        if (expected != Phase.Created) {
            assertEq(uint256(registry.phaseOf(address(wallet))), uint256(expected), "the registry's phase");
        }
    }

    /// @dev Brings the wallet into a phase.
    function reach(Phase phase) private {
        if (phase == Phase.Created) {
            return;
        }
        register();
        if (phase == Phase.Idle) {
            endPeriod();
        } else if (phase == Phase.Suspected || phase == Phase.Punished) {
            suspect();
        }
        if (phase == Phase.Punished) {
            vm.warp(wallet.judgement());
            vm.prank(DAO);
            wallet.ban();
        }
        assertPhase(phase);
    }

    function wrong(Phase phase) private {
        vm.expectRevert(abi.encodeWithSelector(Books.WrongPhase.selector, phase));
    }

    /// @dev Tries everything that has no business in this phase; whoever may call it does.
    function refuses(Phase phase) private {
        reach(phase);
        if (phase != Phase.Created && phase != Phase.Idle) {
            wrong(phase);
            vm.prank(OWNER);
            wallet.register();
            wrong(phase);
            vm.prank(OWNER);
            wallet.withdraw(OWNER, 1);
        }
        if (phase != Phase.Registered) {
            wrong(phase);
            vm.prank(OWNER);
            wallet.payday();
            wrong(phase);
            vm.prank(OWNER);
            wallet.approvePayout(device(0), 1);
            wrong(phase);
            vm.prank(HUB);
            wallet.post(bytes32(uint256(1)), 0, 0);
            wrong(phase);
            vm.prank(DAO);
            wallet.suspect();
        }
        if (phase != Phase.Registered && phase != Phase.Idle) {
            SignedVoucher[] memory one = new SignedVoucher[](1);
            one[0] = voucher(0, 1);
            wrong(phase);
            wallet.redeem(one, 0);
        }
        if (phase != Phase.Suspected) {
            wrong(phase);
            vm.prank(DAO);
            wallet.rehab();
            wrong(phase);
            vm.prank(DAO);
            wallet.ban();
        }
        if (phase != Phase.Punished) {
            wrong(phase);
            wallet.expropriate();
        }
        assertPhase(phase);
    }

    function test_created_refuses_what_is_not_its() public {
        refuses(Phase.Created);
    }

    function test_registered_refuses_what_is_not_its() public {
        refuses(Phase.Registered);
    }

    function test_idle_refuses_what_is_not_its() public {
        refuses(Phase.Idle);
    }

    function test_suspected_refuses_what_is_not_its() public {
        refuses(Phase.Suspected);
    }

    function test_punished_refuses_what_is_not_its() public {
        refuses(Phase.Punished);
    }

    function test_a_new_wallet_is_created_and_its_owner_can_take_tokens_out() public {
        assertPhase(Phase.Created);
        assertEq(wallet.paydayAt(), 0, "no payday");
        assertEq(wallet.judgement(), 0, "no judgement");
        vm.prank(OWNER);
        wallet.withdraw(OWNER, 1000 ether);
        assertEq(token.balanceOf(OWNER), 1000 ether, "all of it");
    }

    function test_a_registration_freezes_and_needs_what_is_frozen() public {
        vm.prank(OWNER);
        wallet.withdraw(OWNER, 1000 ether - 1 ether + 1);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(Books.Underfunded.selector, 1 ether, 1 ether - 1));
        wallet.register();
        token.transfer(address(wallet), 1);
        register();
        assertEq(wallet.frozen(), 1 ether, "frozen");
        assertEq(wallet.free(), 0, "free");
        assertEq(wallet.paydayAt(), block.timestamp + 30 days, "payday");
    }

    function test_payday_comes_after_the_period_and_any_time_after() public {
        register();
        uint256 payday = wallet.paydayAt();
        vm.warp(payday - 1);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.TooEarly.selector, payday));
        wallet.payday();
        vm.warp(payday + 1000 days);
        vm.prank(OWNER);
        wallet.payday();
        assertPhase(Phase.Idle);
    }

    function test_the_dao_can_end_a_period_whose_owner_is_gone() public {
        register();
        vm.warp(wallet.paydayAt());
        vm.prank(DAO);
        wallet.payday();
        assertPhase(Phase.Idle);
    }

    function test_the_period_begins_anew_with_each_registration() public {
        register();
        endPeriod();
        vm.warp(block.timestamp + 3 days);
        register();
        assertEq(wallet.paydayAt(), block.timestamp + 30 days, "payday");
    }

    function test_terms_are_those_of_the_registration() public {
        register();
        Terms memory wanted = terms(50, 100);
        (wanted.period, wanted.frozen, wanted.suspectDelay) = (10 days, 2 ether, 8 days);
        setTerms(wanted);
        assertEq(wallet.paydayAt(), block.timestamp + 30 days, "payday");
        assertEq(wallet.frozen(), 1 ether, "frozen");
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        assertEq(wallet.locked(), 30 ether, "locked");
        endPeriod();
        register();
        assertEq(wallet.paydayAt(), block.timestamp + 10 days, "its payday");
        assertEq(wallet.frozen(), 2 ether, "its frozen");
        assertEq(wallet.locked(), 0, "what came before is not locked again");
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        assertEq(wallet.locked(), 50 ether, "its lock");
        suspect();
        assertEq(wallet.judgement(), block.timestamp + 8 days, "its suspicion");
    }

    function test_rehab_frees_everything() public {
        register();
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        suspect();
        assertEq(wallet.locked(), 30 ether, "locked while suspected");
        vm.prank(DAO);
        wallet.rehab();
        assertPhase(Phase.Idle);
        assertEq(wallet.frozen() + wallet.locked(), 0, "nothing is held");
        vm.prank(OWNER);
        wallet.withdraw(OWNER, 900 ether);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(Books.Underfunded.selector, 100 ether + 1, 100 ether));
        wallet.withdraw(OWNER, 1);
    }

    function test_a_ban_takes_its_time_and_leaves_what_is_committed() public {
        register();
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        suspect();
        uint256 from = wallet.judgement();
        assertEq(from, block.timestamp + 120 days, "the whitepaper's delay");
        vm.warp(from - 1);
        vm.prank(DAO);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.TooEarly.selector, from));
        wallet.ban();
        vm.warp(from);
        vm.prank(DAO);
        wallet.ban();
        assertPhase(Phase.Punished);
        assertEq(token.balanceOf(DAO), 900 ether, "the DAO's");
        vm.prank(device(0));
        wallet.pull();
        assertEq(token.balanceOf(device(0)), 100 ether, "the device's");
    }

    function test_what_nobody_claims_of_a_banned_wallet_lapses() public {
        register();
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        suspect();
        vm.warp(wallet.judgement());
        vm.prank(DAO);
        wallet.ban();
        vm.warp(wallet.judgement() - 1);
        wallet.expropriate();
        assertEq(token.balanceOf(address(wallet)), 100 ether, "not yet");
        vm.warp(wallet.judgement());
        wallet.expropriate();
        assertEq(token.balanceOf(DAO), 1000 ether, "all of it");
    }

    function test_only_who_may_does() public {
        register();
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheOwner.selector, address(this)));
        wallet.register();
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheOwner.selector, address(this)));
        wallet.withdraw(OWNER, 1);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheOwner.selector, address(this)));
        wallet.approvePayout(OWNER, 1);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheOwner.selector, address(this)));
        wallet.payday();
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheHub.selector, address(this)));
        wallet.post(bytes32(uint256(1)), 0, 0);
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheDao.selector, address(this)));
        wallet.suspect();
        suspect();
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheDao.selector, address(this)));
        wallet.rehab();
        vm.expectRevert(abi.encodeWithSelector(HubWallet.NotTheDao.selector, address(this)));
        wallet.ban();
    }

    function test_the_shared_code_is_nobodys_wallet() public {
        HubWallet code = factory.code();
        assertEq(uint256(code.phase()), uint256(Phase.Punished), "it can do nothing");
        vm.expectRevert(bytes(""));
        code.owner();
    }
}
