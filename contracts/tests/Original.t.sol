// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Books} from "../solidity/wallet/Books.sol";
import {Claims} from "../solidity/wallet/Claims.sol";
import {HubWallet} from "../solidity/wallet/HubWallet.sol";
import {Phase} from "../solidity/wallet/Phase.sol";
import {Scene} from "./support/Scene.sol";
import {vm} from "./support/Vm.sol";

/// @dev What was wrong with the contracts of 2017, one test for each, named after it.
contract Original is Scene {
    function setUp() public {
        build();
    }

    function test_original_created_could_not_be_reached() public {
        assertEq(uint256(wallet.phase()), uint256(Phase.Created), "a new wallet is created");
        register();
        assertEq(uint256(wallet.phase()), uint256(Phase.Registered), "and registered after that");
    }

    function test_original_transfer_looked_at_the_owners_balance() public {
        register();
        // A rich owner with a poor wallet, which paid nobody.
        token.transfer(OWNER, 1_000_000 ether);
        vm.prank(OWNER);
        vm.expectPartialRevert(Books.Underfunded.selector);
        wallet.approvePayout(device(0), 2000 ether);
        // And a poor owner with a rich wallet, which could not pay.
        vm.prank(OWNER);
        token.transfer(address(1), 1_000_000 ether);
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 500 ether);
    }

    function test_original_an_approval_replaced_one_that_was_not_pulled() public {
        register();
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 10 ether);
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 20 ether);
        assertEq(wallet.approved(device(0)), 30 ether, "both");
        vm.prank(device(0));
        wallet.pull();
        assertEq(token.balanceOf(device(0)), 30 ether, "pulled");
    }

    function test_original_approvals_were_never_summed() public {
        register();
        // Each alone is covered; together they are not.
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 500 ether);
        vm.prank(OWNER);
        vm.expectPartialRevert(Books.Underfunded.selector);
        wallet.approvePayout(device(1), 500 ether);
    }

    function test_original_an_approval_outlived_suspicion_payday_and_withdrawal() public {
        register();
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 100 ether);
        assertEq(token.allowance(address(wallet), device(0)), 0, "no allowance on the token that nobody accounts for");
        endPeriod();
        // The owner takes all there is to take: what was approved is still there.
        vm.prank(OWNER);
        wallet.withdraw(OWNER, 900 ether - 0.15 ether);
        vm.prank(OWNER);
        vm.expectPartialRevert(Books.Underfunded.selector);
        wallet.withdraw(OWNER, 1);
        token.transfer(address(wallet), 1 ether);
        register();
        suspect();
        vm.prank(device(0));
        wallet.pull();
        assertEq(token.balanceOf(device(0)), 100 ether, "committed is committed");
        assertCovered();
    }

    function test_original_the_period_stayed_120_days_after_rehab() public {
        register();
        suspect();
        vm.prank(DAO);
        wallet.rehab();
        register();
        assertEq(wallet.paydayAt(), block.timestamp + 30 days, "the period's own length");
        endPeriod();
    }

    function test_original_payday_came_before_its_time_and_not_after() public {
        register();
        vm.prank(OWNER);
        vm.expectPartialRevert(HubWallet.TooEarly.selector);
        wallet.payday();
        vm.warp(wallet.paydayAt() + 1);
        vm.prank(OWNER);
        wallet.payday();
    }

    function test_original_calls_to_the_whitelist_never_worked() public {
        register();
        assertEq(registry.count(), 1, "listed");
        assertEq(registry.hubOf(address(wallet)).since, block.timestamp, "since");
        assertEq(uint256(registry.phaseOf(address(wallet))), uint256(Phase.Registered), "phase");
    }

    function test_original_tokens_that_came_after_a_ban_were_stuck() public {
        register();
        suspect();
        vm.warp(wallet.judgement());
        vm.prank(DAO);
        wallet.ban();
        token.transfer(address(wallet), 7 ether);
        wallet.expropriate();
        assertEq(token.balanceOf(DAO), 1007 ether, "the DAO's");
        assertEq(token.balanceOf(address(wallet)), 0, "nothing is stuck");
    }

    function test_original_an_owners_second_wallet_replaced_the_first() public {
        vm.prank(OWNER);
        HubWallet second = factory.create(HUB);
        address[] memory all = factory.walletsOf(OWNER);
        assertEq(all.length, 2, "both");
        assertEq(all[0], address(wallet), "the first");
        assertEq(all[1], address(second), "the second");
        assertTrue(factory.isWallet(address(wallet)) && factory.isWallet(address(second)), "known");
        register();
        vm.prank(OWNER);
        wallet.approvePayout(device(0), 1 ether);
    }

    function test_original_payments_left_no_event() public {
        register();
        vm.prank(OWNER);
        vm.expectEmit(true, true, true, true, address(wallet));
        emit HubWallet.Approved(device(0), 1 ether);
        wallet.approvePayout(device(0), 1 ether);
        vm.prank(device(0));
        vm.expectEmit(true, true, true, true, address(wallet));
        emit Claims.Paid(device(0), device(0), 1 ether);
        wallet.pull();
    }
}
