// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Terms} from "../solidity/dao/Terms.sol";
import {Books} from "../solidity/wallet/Books.sol";
import {HubWallet} from "../solidity/wallet/HubWallet.sol";
import {Phase} from "../solidity/wallet/Phase.sol";
import {Leaf, Payout, SignedVoucher} from "../solidity/wallet/Signed.sol";
import {Scene} from "./support/Scene.sol";
import {Tree} from "./support/Tree.sol";
import {vm} from "./support/Vm.sol";

/// @dev A hub, its owner, its devices and the DAO, each doing anything at any time, and keeping books of their own: what
/// the contract may do is compared with them after each step.
contract Actors is Scene {
    uint256 private constant DEVICES = 6;

    /// @dev What the hub owes each device in all, by its own books.
    uint256[DEVICES] public owed;
    /// @dev What each device had been paid at the last look: it must only grow.
    uint256[DEVICES] private _seenPaid;
    uint256 private _seenCommitted;
    Phase private _seenPhase;
    Leaf[] private _active;
    Leaf[] private _pending;
    /// @dev Tokens that came from outside, and that went to anybody but devices and relayer.
    uint256 public put = 1000 ether;
    uint256 public pulled;
    /// @dev How often each thing worked, so that a run in which nothing ever does is seen.
    mapping(string what => uint256) public done;

    constructor() {
        build();
    }

    function deviceOf(uint256 any) private pure returns (uint256) {
        return any % DEVICES;
    }

    // --- money comes and work is done

    function fund(uint96 any) external {
        uint256 amount = bound(any, 1, 1000 ether);
        token.transfer(address(wallet), amount);
        put += amount;
        done["fund"]++;
        check();
    }

    function work(uint8 which, uint96 any) external {
        owed[deviceOf(which)] += bound(any, 1, 20 ether);
        done["work"]++;
        check();
    }

    // --- the owner

    function begin() external {
        vm.prank(OWNER);
        try wallet.register() {
            done["register"]++;
        } catch {}
        check();
    }

    function payday(bool late) external {
        if (late && wallet.paydayAt() != 0) {
            vm.warp(wallet.paydayAt() > block.timestamp ? wallet.paydayAt() : block.timestamp);
        }
        vm.prank(OWNER);
        try wallet.payday() {
            done["payday"]++;
        } catch {}
        check();
    }

    function withdraw(uint96 any) external {
        uint256 outstanding = wallet.committed() - wallet.paid();
        uint256 amount = bound(any, 1, 500 ether);
        vm.prank(OWNER);
        try wallet.withdraw(OWNER, amount) {
            done["withdraw"]++;
            assertTrue(token.balanceOf(address(wallet)) >= outstanding, "never below what is committed");
        } catch {}
        check();
    }

    function approve(uint8 which, uint96 any) external {
        vm.prank(OWNER);
        try wallet.approvePayout(address(uint160(0x900 + deviceOf(which))), bound(any, 1, 50 ether)) {
            done["approve"]++;
        } catch {}
        check();
    }

    function pull(uint8 which) external {
        address miner = address(uint160(0x900 + deviceOf(which)));
        uint256 approved = wallet.approved(miner);
        uint256 before = token.balanceOf(miner);
        vm.prank(miner);
        try wallet.pull() {
            done["pull"]++;
            pulled += approved;
            assertEq(token.balanceOf(miner) - before, approved, "all that was approved");
        } catch {
            assertEq(approved, 0, "what was approved can be pulled in any phase");
        }
        check();
    }

    // --- the hub

    function root(uint8 lie) external {
        Leaf[] memory all = new Leaf[](DEVICES);
        for (uint256 i = 0; i < DEVICES; ++i) {
            (uint256 paid,,) = wallet.accountOf(device(i));
            all[i] = Leaf(device(i), owed[i] > paid ? owed[i] : paid);
        }
        uint256 sum = total(all);
        if (lie % 8 == 0 && sum > wallet.settled()) {
            // A hub that posts too small a total.
            sum = wallet.settled() + (sum - wallet.settled()) / 2;
        }
        uint256 seen = wallet.settled();
        bytes32 its = Tree.root(all);
        promote();
        vm.prank(HUB);
        try wallet.post(its, sum, seen) {
            done["post"]++;
            delete _pending;
            for (uint256 i = 0; i < DEVICES; ++i) {
                _pending.push(all[i]);
            }
        } catch {}
        check();
    }

    function wait(uint32 any) external {
        vm.warp(block.timestamp + bound(any, 1, 5 days));
        check();
    }

    // --- devices and relayers

    function settleRange(uint8 first, uint8 count, uint8 share) external {
        promote();
        if (_active.length == 0) {
            return;
        }
        Leaf[] memory all = _active;
        uint256 from = deviceOf(first);
        uint256 some = bound(count, 1, DEVICES - from);
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(all, from, some);
        Leaf[] memory chosen = new Leaf[](some);
        for (uint256 i = 0; i < some; ++i) {
            chosen[i] = all[from + i];
        }
        vm.prank(RELAYER);
        try wallet.settle(chosen, proof, flags, DEVICES, share % 100) {
            done["settle"]++;
        } catch (bytes memory reason) {
            // Only a hub that lied about its total can bring this about.
            bytes4 why = bytes4(reason);
            assertTrue(why == Books.Underfunded.selector || why == Books.WrongPhase.selector, "why it is not settled");
        }
        check();
    }

    function redeemOne(uint8 which) external {
        uint256 one = deviceOf(which);
        if (owed[one] == 0) {
            return;
        }
        SignedVoucher[] memory vouchers = new SignedVoucher[](1);
        vouchers[0] = voucher(one, owed[one]);
        try wallet.redeem(vouchers, 0) {
            done["redeem"]++;
        } catch {}
        check();
    }

    function claimOne(uint8 which, uint96 fee) external {
        promote();
        if (_active.length == 0) {
            return;
        }
        uint256 one = deviceOf(which);
        Leaf[] memory all = _active;
        (Payout memory its, bytes memory signature) = payout(one, device(one), all[one].cumulative, 1 ether);
        bytes32[] memory path = Tree.path(all, one);
        vm.prank(RELAYER);
        try wallet.claim(its, signature, path, DEVICES, bound(fee, 0, 1 ether)) {
            done["claim"]++;
        } catch {}
        check();
    }

    function payTo(uint8 which, uint8 share) external {
        uint256 one = deviceOf(which);
        setPayee(one, address(uint160(0x7000 + one)), share % 101);
        done["payee"]++;
        check();
    }

    // --- the DAO

    function doubt() external {
        promote();
        (bytes32 before,,) = wallet.roots();
        vm.prank(DAO);
        try wallet.suspect() {
            done["suspect"]++;
            (bytes32 newest,,) = wallet.roots();
            if (newest != before) {
                delete _pending;
            }
        } catch {}
        check();
    }

    function forgive() external {
        vm.prank(DAO);
        try wallet.rehab() {
            done["rehab"]++;
        } catch {}
        check();
    }

    function change(uint8 lock, uint16 fee) external {
        setTerms(terms(uint8(bound(lock, 0, 100)), uint16(bound(fee, 0, 100))));
        check();
    }

    // --- what must hold

    /// @dev The pending root has become active.
    function promote() private {
        (, uint256 activeAt,) = wallet.roots();
        if (_pending.length != 0 && block.timestamp >= activeAt) {
            _active = _pending;
            delete _pending;
        }
    }

    function check() private {
        assertEq(uint256(wallet.phase()) <= 4 ? 1 : 0, 1, "a phase");
        if (registry.count() != 0) {
            assertEq(uint256(registry.phaseOf(address(wallet))), uint256(wallet.phase()), "the registry's phase");
        }
        assertCovered();
        uint256 sum = 0;
        for (uint256 i = 0; i < DEVICES; ++i) {
            (uint256 paid,,) = wallet.accountOf(device(i));
            assertTrue(paid >= _seenPaid[i], "what was paid only grows");
            assertTrue(paid <= owed[i], "no device is paid more than it earned");
            _seenPaid[i] = paid;
            sum += paid;
        }
        assertEq(wallet.paid(), sum + pulled, "what was paid is the sum of all payments");
        assertTrue(isWay(_seenPhase, wallet.phase()), "only the ways that there are");
        if (wallet.phase() != Phase.Suspected) {
            assertTrue(wallet.committed() >= _seenCommitted, "what is committed only grows, but for a void root");
        }
        _seenCommitted = wallet.committed();
        _seenPhase = wallet.phase();
        conserves();
    }

    function isWay(Phase from, Phase to) private pure returns (bool) {
        return from == to || (from == Phase.Created && to == Phase.Registered)
            || (from == Phase.Registered && (to == Phase.Idle || to == Phase.Suspected))
            || (from == Phase.Idle && to == Phase.Registered)
            || (from == Phase.Suspected && (to == Phase.Idle || to == Phase.Punished));
    }

    /// @dev Nothing comes from nowhere: what was put in is with the wallet, its owner, the DAO, devices and relayers.
    function conserves() private view {
        uint256 sum = token.balanceOf(address(wallet)) + token.balanceOf(OWNER) + token.balanceOf(DAO)
            + token.balanceOf(RELAYER) + token.balanceOf(address(this));
        for (uint256 i = 0; i < DEVICES; ++i) {
            sum += token.balanceOf(device(i)) + token.balanceOf(address(uint160(0x7000 + i)))
            + token.balanceOf(address(uint160(0x900 + i)));
        }
        assertEq(sum, token.SUPPLY(), "to the last unit");
    }
}

/// @dev Runs the actors; what they check reverts within their own calls, which `fail_on_revert` turns into a failure.
contract HubWalletInvariants is Scene {
    Actors private _actors;

    function setUp() public {
        _actors = new Actors();
        target(address(_actors));
    }

    function invariant_the_wallet_is_covered_and_only_grows() public view {
        // Each step has been checked by itself.
        assertTrue(_actors.put() >= 1000 ether, "it was set up");
    }

    /// @dev The actors can do everything that they are there for: a random course that never registers proves nothing.
    function test_the_actors_get_everywhere() public {
        _actors.begin();
        _actors.work(0, 5 ether);
        _actors.work(1, 7 ether);
        _actors.redeemOne(0);
        _actors.root(1);
        _actors.wait(5 days);
        _actors.settleRange(0, 6, 10);
        _actors.work(1, 3 ether);
        _actors.root(1);
        _actors.wait(2 days);
        _actors.claimOne(1, 0.1 ether);
        _actors.payTo(2, 10);
        _actors.approve(0, 1 ether);
        _actors.pull(0);
        _actors.payday(true);
        _actors.withdraw(1 ether);
        _actors.begin();
        _actors.doubt();
        _actors.forgive();
        string[12] memory all = [
            "register",
            "work",
            "redeem",
            "post",
            "settle",
            "claim",
            "payee",
            "approve",
            "pull",
            "payday",
            "suspect",
            "rehab"
        ];
        for (uint256 i = 0; i < all.length; ++i) {
            assertTrue(_actors.done(all[i]) != 0, all[i]);
        }
    }
}
