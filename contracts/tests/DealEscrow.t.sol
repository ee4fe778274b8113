// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Deals} from "../solidity/escrow/Deals.sol";
import {Deposits} from "../solidity/escrow/Deposits.sol";
import {EscrowBase} from "../solidity/escrow/EscrowBase.sol";
import {Streams} from "../solidity/escrow/Streams.sol";
import {DealEscrow} from "../solidity/escrow/DealEscrow.sol";
import {domainSeparator} from "../solidity/wallet/Signed.sol";
import {Scene} from "./support/Scene.sol";
import {vm} from "./support/Vm.sol";

/// @dev Buyers' deposits, deals and streams: that each side gets what is its, in time, and nothing is lost between.
contract DealEscrowTest is Scene {
    uint256 private constant BUYER_KEY = 0xb1;
    bytes32 private constant SUBJECT = keccak256("render the tiles");

    function setUp() public {
        build();
        token.transfer(BUYER, 1000 ether);
        vm.prank(BUYER);
        token.approve(address(escrow), type(uint256).max);
    }

    function hubHas() private view returns (uint256) {
        return token.balanceOf(address(wallet)) - 1000 ether;
    }

    function assertHeld(uint256 amount) private view {
        assertEq(token.balanceOf(address(escrow)), amount, "held");
        assertEq(token.balanceOf(BUYER) + hubHas() + amount, 1000 ether, "to the last unit");
    }

    // --- deposits

    function confirmation(uint256 cumulative) private view returns (bytes memory) {
        bytes32 its = keccak256(
            abi.encode(
                keccak256("BuyerVoucher(address buyer,address wallet,uint256 cumulative)"),
                BUYER,
                address(wallet),
                cumulative
            )
        );
        return signed(BUYER_KEY, its, domainSeparator(address(escrow)));
    }

    function deposit(uint256 amount) private {
        vm.prank(BUYER);
        escrow.deposit(address(wallet), amount);
    }

    function test_a_deposit_is_the_hubs_as_far_as_the_buyer_confirms() public {
        deposit(100 ether);
        assertHeld(100 ether);
        escrow.redeem(BUYER, address(wallet), 30 ether, confirmation(30 ether));
        escrow.redeem(BUYER, address(wallet), 45 ether, confirmation(45 ether));
        assertEq(hubHas(), 45 ether, "cumulative");
        bytes memory old = confirmation(30 ether);
        vm.expectRevert(abi.encodeWithSelector(Deposits.NothingDue.selector, 30 ether, 45 ether));
        escrow.redeem(BUYER, address(wallet), 30 ether, old);
        bytes memory large = confirmation(101 ether);
        vm.expectRevert(abi.encodeWithSelector(Deposits.TooLittle.selector, 101 ether, 100 ether));
        escrow.redeem(BUYER, address(wallet), 101 ether, large);
        vm.expectRevert(abi.encodeWithSelector(Deposits.NotConfirmed.selector, BUYER));
        escrow.redeem(BUYER, address(wallet), 50 ether, large);
        assertHeld(55 ether);
    }

    function test_what_a_buyer_takes_back_is_announced_in_time_for_the_hub() public {
        deposit(100 ether);
        vm.prank(BUYER);
        vm.expectRevert(Deposits.NoNotice.selector);
        escrow.takeBack(address(wallet), 1 ether);
        vm.prank(BUYER);
        escrow.giveNotice(address(wallet));
        uint256 openFrom = block.timestamp + escrow.NOTICE();
        vm.warp(openFrom - 1);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.TooEarly.selector, openFrom));
        escrow.takeBack(address(wallet), 1 ether);
        escrow.redeem(BUYER, address(wallet), 40 ether, confirmation(40 ether));
        vm.warp(openFrom);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Deposits.TooLittle.selector, 61 ether, 60 ether));
        escrow.takeBack(address(wallet), 61 ether);
        vm.prank(BUYER);
        escrow.takeBack(address(wallet), 60 ether);
        assertHeld(0);
        // The announcement is used up.
        deposit(10 ether);
        vm.prank(BUYER);
        vm.expectRevert(Deposits.NoNotice.selector);
        escrow.takeBack(address(wallet), 1 ether);
        // What comes later is claimed on top of what was.
        escrow.redeem(BUYER, address(wallet), 50 ether, confirmation(50 ether));
        assertHeld(0);
    }

    function test_a_deposit_by_signature_needs_no_approval_before() public {
        vm.prank(BUYER);
        token.approve(address(escrow), 0);
        bytes32 its = keccak256(
            abi.encode(
                keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
                BUYER,
                address(escrow),
                uint256(5 ether),
                token.nonces(BUYER),
                block.timestamp
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(BUYER_KEY, MessageHashUtils.toTypedDataHash(token.DOMAIN_SEPARATOR(), its));
        // Somebody uses the signature first: the deposit comes all the same.
        token.permit(BUYER, address(escrow), 5 ether, block.timestamp, v, r, s);
        vm.prank(BUYER);
        escrow.depositWithPermit(address(wallet), 5 ether, block.timestamp, v, r, s);
        Deposits.Deposit memory mine = escrow.depositOf(BUYER, address(wallet));
        assertEq(mine.put, 5 ether, "put");
    }

    function test_only_wallets_are_paid() public {
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.NotAWallet.selector, address(this)));
        escrow.deposit(address(this), 1 ether);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.NotAWallet.selector, address(this)));
        escrow.open(address(this), 1 ether, SUBJECT, 1, 1, 1);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.NotAWallet.selector, address(this)));
        escrow.openStream(address(this), 1, 1 ether, SUBJECT);
        vm.prank(BUYER);
        vm.expectRevert(EscrowBase.NoAmount.selector);
        escrow.deposit(address(wallet), 0);
    }

    function testFuzz_deposits_are_kept_to_the_last_unit(uint96[12] memory amounts) public {
        uint256 put = 0;
        uint256 confirmed = 0;
        for (uint256 i = 0; i < amounts.length; i += 3) {
            uint256 more = bound(amounts[i], 1, 100 ether);
            deposit(more);
            put += more;
            uint256 work = bound(amounts[i + 1], 1, put - confirmed == 0 ? 1 : put - confirmed);
            if (confirmed + work <= put) {
                confirmed += work;
                escrow.redeem(BUYER, address(wallet), confirmed, confirmation(confirmed));
            }
            vm.prank(BUYER);
            escrow.giveNotice(address(wallet));
            vm.warp(block.timestamp + escrow.NOTICE());
            uint256 back = bound(amounts[i + 2], 0, put - confirmed);
            vm.prank(BUYER);
            escrow.takeBack(address(wallet), back);
            put -= back;
            assertHeld(put - confirmed);
        }
    }

    // --- deals

    function open() private returns (uint256 id) {
        vm.prank(BUYER);
        return escrow.open(address(wallet), 90 ether, SUBJECT, 1 days, 10 days, 3 days);
    }

    function accepted() private returns (uint256 id) {
        id = open();
        vm.prank(HUB);
        escrow.accept(id);
    }

    function delivered() private returns (uint256 id) {
        id = accepted();
        vm.prank(OWNER);
        escrow.deliver(id, SUBJECT);
    }

    function disputed() private returns (uint256 id) {
        id = delivered();
        vm.prank(BUYER);
        escrow.dispute(id, SUBJECT);
    }

    function until(uint256 id) private view returns (uint256) {
        return escrow.deal(id).until;
    }

    function assertEnded(uint256 id, Deals.DealPhase phase, uint256 toHub) private {
        assertEq(uint256(escrow.deal(id).phase), uint256(phase), "phase");
        assertEq(hubHas(), toHub, "the hub's");
        assertHeld(0);
        vm.warp(block.timestamp + 365 days);
        vm.expectRevert(abi.encodeWithSelector(Deals.WrongDealPhase.selector, id, phase));
        escrow.timeOut(id);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Deals.WrongDealPhase.selector, id, phase));
        escrow.confirm(id);
    }

    function test_a_deal_is_opened_accepted_delivered_and_confirmed() public {
        uint256 id = delivered();
        assertHeld(90 ether);
        vm.prank(BUYER);
        escrow.confirm(id);
        assertEnded(id, Deals.DealPhase.Confirmed, 90 ether);
        assertEq(escrow.deals(), 1, "deals");
    }

    function test_an_offer_can_be_taken_back_until_it_is_accepted() public {
        uint256 id = open();
        vm.prank(BUYER);
        escrow.cancel(id);
        assertEnded(id, Deals.DealPhase.Cancelled, 0);
        id = accepted();
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Deals.WrongDealPhase.selector, id, Deals.DealPhase.Accepted));
        escrow.cancel(id);
    }

    function test_an_offer_that_nobody_accepts_goes_back() public {
        uint256 id = open();
        vm.warp(until(id));
        vm.expectPartialRevert(EscrowBase.TooEarly.selector);
        escrow.timeOut(id);
        vm.warp(until(id) + 1);
        vm.prank(HUB);
        vm.expectPartialRevert(EscrowBase.TooLate.selector);
        escrow.accept(id);
        escrow.timeOut(id);
        assertEnded(id, Deals.DealPhase.TimedOut, 0);
    }

    function test_a_hub_that_does_not_deliver_is_not_paid() public {
        uint256 id = accepted();
        vm.warp(until(id) + 1);
        vm.prank(HUB);
        vm.expectPartialRevert(EscrowBase.TooLate.selector);
        escrow.deliver(id, SUBJECT);
        escrow.timeOut(id);
        assertEnded(id, Deals.DealPhase.TimedOut, 0);
    }

    function test_a_buyer_who_says_nothing_pays() public {
        uint256 id = delivered();
        vm.warp(until(id) + 1);
        vm.prank(BUYER);
        vm.expectPartialRevert(EscrowBase.TooLate.selector);
        escrow.dispute(id, SUBJECT);
        escrow.timeOut(id);
        assertEnded(id, Deals.DealPhase.TimedOut, 90 ether);
    }

    function testFuzz_the_court_divides(uint96 any) public {
        uint256 toHub = bound(any, 0, 90 ether);
        uint256 id = disputed();
        vm.prank(COURT);
        vm.expectRevert(abi.encodeWithSelector(Deals.TooMuchForHub.selector, 90 ether + 1, 90 ether));
        escrow.resolve(id, 90 ether + 1);
        vm.prank(COURT);
        escrow.resolve(id, toHub);
        assertEnded(id, Deals.DealPhase.Resolved, toHub);
    }

    function test_a_court_that_says_nothing_leaves_each_half() public {
        uint256 id = disputed();
        vm.warp(until(id) + 1);
        escrow.timeOut(id);
        assertEnded(id, Deals.DealPhase.TimedOut, 45 ether);
    }

    function test_a_buyer_can_give_in() public {
        uint256 id = disputed();
        vm.prank(BUYER);
        escrow.confirm(id);
        assertEnded(id, Deals.DealPhase.Confirmed, 90 ether);
    }

    function test_in_a_deal_each_party_does_its_own() public {
        uint256 id = open();
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.cancel(id);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.accept(id);
        vm.prank(HUB);
        escrow.accept(id);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.deliver(id, SUBJECT);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.confirm(id);
        vm.prank(HUB);
        escrow.deliver(id, SUBJECT);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.dispute(id, SUBJECT);
        vm.prank(BUYER);
        escrow.dispute(id, SUBJECT);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.resolve(id, 0);
        vm.prank(BUYER);
        vm.expectRevert(abi.encodeWithSelector(Deals.TooLong.selector, 3651 days));
        escrow.open(address(wallet), 1 ether, SUBJECT, 1, 3651 days, 1);
    }

    function test_the_dao_names_the_court() public {
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.setCourt(address(1));
        vm.prank(DAO);
        escrow.setCourt(address(1));
        uint256 id = disputed();
        vm.prank(COURT);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, COURT));
        escrow.resolve(id, 0);
        vm.prank(address(1));
        escrow.resolve(id, 0);
    }

    // --- streams

    function stream() private returns (uint256 id) {
        vm.prank(BUYER);
        id = escrow.openStream(address(wallet), 1 ether, 100 ether, SUBJECT);
        vm.prank(HUB);
        escrow.startStream(id);
    }

    function test_a_service_is_paid_for_by_the_second() public {
        uint256 id = stream();
        vm.warp(block.timestamp + 30);
        assertEq(escrow.due(id), 30 ether, "due");
        escrow.collect(id);
        assertEq(hubHas(), 30 ether, "collected");
        vm.warp(block.timestamp + 5);
        vm.prank(BUYER);
        escrow.stopStream(id);
        assertEq(hubHas(), 35 ether, "until the end");
        assertHeld(0);
        assertEq(escrow.due(id), 0, "over");
        vm.expectRevert(abi.encodeWithSelector(Streams.IsOver.selector, id));
        escrow.collect(id);
        assertEq(escrow.streams(), 1, "streams");
        assertTrue(escrow.stream(id).isOver, "over");
    }

    function test_a_hub_can_end_a_service_too_and_nobody_else() public {
        uint256 id = stream();
        vm.warp(block.timestamp + 10);
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.stopStream(id);
        vm.prank(HUB);
        escrow.stopStream(id);
        assertEq(hubHas(), 10 ether, "served");
        assertHeld(0);
    }

    function test_time_without_money_is_not_paid_for() public {
        uint256 id = stream();
        vm.warp(block.timestamp + 1000);
        assertEq(escrow.due(id), 100 ether, "all there is");
        vm.prank(BUYER);
        escrow.fundStream(id, 50 ether);
        assertEq(escrow.due(id), 100 ether, "not more at once");
        vm.warp(block.timestamp + 10);
        assertEq(escrow.due(id), 110 ether, "from now on");
        escrow.collect(id);
        vm.prank(BUYER);
        escrow.stopStream(id);
        assertHeld(0);
    }

    function test_a_service_that_no_hub_has_started_costs_nothing() public {
        vm.prank(BUYER);
        uint256 id = escrow.openStream(address(wallet), 1 ether, 100 ether, SUBJECT);
        vm.warp(block.timestamp + 1000);
        assertEq(escrow.due(id), 0, "nothing");
        vm.expectRevert(abi.encodeWithSelector(EscrowBase.WrongParty.selector, address(this)));
        escrow.startStream(id);
        vm.prank(BUYER);
        escrow.stopStream(id);
        assertHeld(0);
        assertEq(hubHas(), 0, "the hub's");
        id = stream();
        vm.prank(HUB);
        vm.expectRevert(abi.encodeWithSelector(Streams.HasStarted.selector, id));
        escrow.startStream(id);
        vm.prank(BUYER);
        vm.expectRevert(EscrowBase.NoAmount.selector);
        escrow.openStream(address(wallet), 0, 1 ether, SUBJECT);
    }

    function testFuzz_a_service_conserves(uint64 rate, uint96 amount, uint32[6] memory steps) public {
        uint256 its = bound(rate, 1, 1 ether);
        uint256 put = bound(amount, 1, 500 ether);
        vm.prank(BUYER);
        uint256 id = escrow.openStream(address(wallet), its, put, SUBJECT);
        vm.prank(HUB);
        escrow.startStream(id);
        for (uint256 i = 0; i < steps.length; ++i) {
            vm.warp(block.timestamp + steps[i]);
            if (i % 2 == 0) {
                escrow.collect(id);
            } else {
                uint256 more = bound(steps[i], 1, 10 ether);
                vm.prank(BUYER);
                escrow.fundStream(id, more);
                put += more;
            }
            assertTrue(hubHas() <= put, "never more than there is");
            assertHeld(put - hubHas());
        }
        vm.prank(BUYER);
        escrow.stopStream(id);
        assertHeld(0);
    }
}
