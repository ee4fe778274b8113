// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {Parameters} from "../../solidity/dao/Parameters.sol";
import {Terms} from "../../solidity/dao/Terms.sol";
import {DealEscrow} from "../../solidity/escrow/DealEscrow.sol";
import {HubRegistry} from "../../solidity/registry/HubRegistry.sol";
import {SNM} from "../../solidity/token/SNM.sol";
import {HubWallet} from "../../solidity/wallet/HubWallet.sol";
import {HubWalletFactory} from "../../solidity/wallet/HubWalletFactory.sol";
import {
    Leaf,
    Payee,
    Payout,
    SignedVoucher,
    Voucher,
    hashPayee,
    hashPayout,
    hashVoucher
} from "../../solidity/wallet/Signed.sol";
import {Test} from "./Test.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @dev All contracts, a hub with a wallet of 1,000 SNM, and people with keys.
abstract contract Scene is Test {
    uint256 internal constant HUB_KEY = 0xb0b;
    uint256 internal constant DEVICE_KEY = 0xd0;

    address internal immutable DAO = address(0xda0);
    address internal immutable OWNER = address(0x0e);
    address internal immutable COURT = address(0xc0);
    address internal immutable BUYER = vm.addr(0xb1);
    address internal immutable RELAYER = address(0x4e1a);
    address internal immutable HUB = vm.addr(HUB_KEY);

    SNM internal token;
    Parameters internal parameters;
    HubRegistry internal registry;
    HubWalletFactory internal factory;
    DealEscrow internal escrow;
    HubWallet internal wallet;

    function build() internal {
        vm.warp(1_800_000_000);
        token = new SNM(address(this));
        parameters = new Parameters(DAO);
        registry = new HubRegistry(parameters);
        factory = new HubWalletFactory(token, registry);
        escrow = new DealEscrow(token, factory, parameters, COURT);
        vm.prank(DAO);
        registry.admitFactory(factory, true);
        vm.prank(OWNER);
        wallet = factory.create(HUB);
        token.transfer(address(wallet), 1000 ether);
    }

    /// @dev The key of a device by number.
    function key(uint256 number) internal pure returns (uint256) {
        return DEVICE_KEY + number;
    }

    function device(uint256 number) internal pure returns (address) {
        return vm.addr(key(number));
    }

    function register() internal {
        vm.prank(OWNER);
        wallet.register();
    }

    function signed(uint256 signer, bytes32 structHash, bytes32 domain) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(signer, MessageHashUtils.toTypedDataHash(domain, structHash));
        return abi.encodePacked(r, s, v);
    }

    /// @dev A hub's voucher to a device.
    function voucher(uint256 number, uint256 cumulative) internal view returns (SignedVoucher memory) {
        Voucher memory its = Voucher(device(number), cumulative, bytes32(cumulative));
        return SignedVoucher(its, signed(HUB_KEY, hashVoucher(its), wallet.domain()));
    }

    function redeem(uint256 number, uint256 cumulative) internal {
        SignedVoucher[] memory one = new SignedVoucher[](1);
        one[0] = voucher(number, cumulative);
        wallet.redeem(one, 0);
    }

    /// @dev So many devices from the first on, each owed this much in all.
    function leaves(uint256 count, uint256 cumulative) internal pure returns (Leaf[] memory all) {
        all = new Leaf[](count);
        for (uint256 i = 0; i < count; ++i) {
            all[i] = Leaf(device(i), cumulative);
        }
    }

    function total(Leaf[] memory all) internal pure returns (uint256 sum) {
        for (uint256 i = 0; i < all.length; ++i) {
            sum += all[i].cumulative;
        }
    }

    /// @dev The hub posts a root over these.
    function post(Leaf[] memory all) internal {
        uint256 seen = wallet.settled();
        bytes32 root = Tree.root(all);
        vm.prank(HUB);
        wallet.post(root, total(all), seen);
    }

    /// @dev And it becomes active.
    function postAndWait(Leaf[] memory all) internal {
        post(all);
        (, uint256 activeAt,) = wallet.roots();
        vm.warp(activeAt);
    }

    function settle(Leaf[] memory all, uint256 first, uint256 count, uint256 share) internal {
        (bytes32[] memory proof, bool[] memory flags) = Tree.range(all, first, count);
        Leaf[] memory some = new Leaf[](count);
        for (uint256 i = 0; i < count; ++i) {
            some[i] = all[first + i];
        }
        vm.prank(RELAYER);
        wallet.settle(some, proof, flags, all.length, share);
    }

    /// @dev What a device signs to be paid at an address.
    function payout(uint256 number, address to, uint256 cumulative, uint256 maxFee)
        internal
        view
        returns (Payout memory its, bytes memory signature)
    {
        its = Payout(address(wallet), device(number), to, cumulative, maxFee, block.timestamp + 1 hours);
        signature = signed(key(number), hashPayout(its), wallet.domain());
    }

    function setPayee(uint256 number, address to, uint256 share) internal {
        Payee memory its = Payee(device(number), to, share, wallet.payeeNonce(device(number)), block.timestamp);
        bytes memory signature = signed(key(number), hashPayee(its), wallet.domain());
        wallet.setPayee(its, signature);
    }

    function endPeriod() internal {
        vm.warp(wallet.paydayAt());
        vm.prank(OWNER);
        wallet.payday();
    }

    function suspect() internal {
        vm.prank(DAO);
        wallet.suspect();
    }

    /// @dev What must hold at any moment.
    function assertCovered() internal view {
        uint256 needed = wallet.frozen() + wallet.locked() + wallet.committed() - wallet.paid();
        assertTrue(token.balanceOf(address(wallet)) >= needed, "the balance covers what it must");
        assertTrue(wallet.paid() <= wallet.committed(), "no more is paid than committed");
    }

    function setTerms(Terms memory wanted) internal {
        vm.prank(DAO);
        parameters.setTerms(wanted);
    }

    function terms(uint8 lockPercent, uint16 feePerMille) internal view returns (Terms memory wanted) {
        wanted = parameters.terms();
        (wanted.lockPercent, wanted.feePerMille) = (lockPercent, feePerMille);
    }
}
