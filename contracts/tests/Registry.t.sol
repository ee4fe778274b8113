// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity ^0.8.37;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {Parameters} from "../solidity/dao/Parameters.sol";
import {Terms} from "../solidity/dao/Terms.sol";
import {HubRegistry} from "../solidity/registry/HubRegistry.sol";
import {SNM} from "../solidity/token/SNM.sol";
import {HubWallet} from "../solidity/wallet/HubWallet.sol";
import {HubWalletFactory} from "../solidity/wallet/HubWalletFactory.sol";
import {Phase} from "../solidity/wallet/Phase.sol";
import {Scene} from "./support/Scene.sol";
import {vm} from "./support/Vm.sol";

/// @dev Who may be in the list of hubs, what is said of them, and by whom; token, terms and factory.
contract RegistryTest is Scene {
    function setUp() public {
        build();
    }

    function description() private pure returns (HubRegistry.Description memory) {
        return HubRegistry.Description("Lighthouse", "hub.example:8883", keccak256("more"));
    }

    function test_only_wallets_of_admitted_factories_register() public {
        vm.expectRevert();
        registry.enter(Phase.Registered);
        HubWalletFactory stranger = new HubWalletFactory(token, registry);
        vm.prank(OWNER);
        HubWallet other = stranger.create(HUB);
        token.transfer(address(other), 10 ether);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.NotAWallet.selector, address(other)));
        other.register();
        vm.prank(DAO);
        registry.admitFactory(stranger, true);
        vm.prank(OWNER);
        other.register();
        vm.prank(DAO);
        registry.admitFactory(stranger, false);
        suspectOther(other);
        assertEq(uint256(registry.phaseOf(address(other))), uint256(Phase.Suspected), "it stays in the list");
    }

    function suspectOther(HubWallet other) private {
        vm.prank(DAO);
        other.suspect();
    }

    function test_a_hub_is_described_by_its_owner_and_vouched_for_by_the_dao() public {
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.NotListed.selector, address(wallet)));
        registry.describe(wallet, description());
        register();
        HubRegistry.Hub memory hub = registry.hubOf(address(wallet));
        assertEq(uint256(hub.standing), uint256(HubRegistry.Standing.Unconfirmed), "unconfirmed");
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.NotTheOwner.selector, address(this)));
        registry.describe(wallet, description());
        vm.prank(OWNER);
        registry.describe(wallet, description());
        hub = registry.hubOf(address(wallet));
        assertEq(keccak256(bytes(hub.description.name)), keccak256("Lighthouse"), "name");
        assertEq(hub.description.details, keccak256("more"), "details");
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.NotTheDao.selector, address(this)));
        registry.setStanding(address(wallet), HubRegistry.Standing.Trusted);
        vm.prank(DAO);
        registry.setStanding(address(wallet), HubRegistry.Standing.Trusted);
        assertEq(uint256(registry.hubOf(address(wallet)).standing), uint256(HubRegistry.Standing.Trusted), "trusted");
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.NotTheDao.selector, address(this)));
        registry.admitFactory(factory, false);
        HubRegistry.Description memory long = description();
        long.name = "0123456789012345678901234567890123456789012345678901234567890123456789";
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.TooLong.selector, "name", 70, 64));
        registry.describe(wallet, long);
        long.endpoint = string(new bytes(257));
        long.name = "";
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(HubRegistry.TooLong.selector, "endpoint", 257, 256));
        registry.describe(wallet, long);
    }

    function test_the_list_is_read_in_pages_and_names_each_wallet_once() public {
        address[] memory expected = new address[](5);
        for (uint256 i = 0; i < 5; ++i) {
            vm.prank(OWNER);
            HubWallet one = factory.create(HUB);
            token.transfer(address(one), 10 ether);
            vm.prank(OWNER);
            one.register();
            expected[i] = address(one);
        }
        vm.warp(HubWallet(expected[0]).paydayAt());
        vm.prank(OWNER);
        HubWallet(expected[0]).payday();
        vm.prank(OWNER);
        HubWallet(expected[0]).register();
        assertEq(registry.count(), 5, "once");
        address[] memory page = registry.wallets(1, 3);
        assertEq(page.length, 3, "a page");
        assertEq(page[0], expected[1], "in order");
        assertEq(registry.wallets(3, type(uint256).max).length, 2, "the rest");
        assertEq(registry.wallets(5, 3).length, 0, "none");
        assertEq(registry.wallets(500, 3).length, 0, "none at all");
    }

    function test_a_wallets_address_is_known_before() public {
        address expected = factory.predict(OWNER, HUB, 1);
        vm.prank(OWNER);
        HubWallet made = factory.create(HUB);
        assertEq(address(made), expected, "as predicted");
        assertEq(made.owner(), OWNER, "owner");
        assertEq(made.hub(), HUB, "hub");
        assertEq(made.dao(), DAO, "dao");
        vm.expectRevert(HubWalletFactory.NoHub.selector);
        factory.create(address(0));
    }

    function test_the_supply_is_fixed() public {
        assertEq(token.totalSupply(), 444_000_000 ether, "supply");
        assertEq(token.SUPPLY(), 444_000_000 ether, "supply");
        assertEq(new SNM(address(7)).balanceOf(address(7)), 444_000_000 ether, "the holder's");
    }

    function test_terms_begin_as_the_originals_and_have_bounds() public {
        Terms memory now_ = parameters.terms();
        assertEq(now_.frozen, 1 ether, "frozen");
        assertEq(now_.period, 30 days, "period");
        assertEq(now_.suspectDelay, 120 days, "suspect");
        assertEq(now_.lockPercent, 30, "lock");
        assertEq(now_.feePerMille, 5, "fee");
        vm.expectRevert(abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, address(this)));
        parameters.setTerms(now_);
        refused(Terms(0.009 ether, 30 days, 120 days, 24, 30, 5), "frozen");
        refused(Terms(1_000_001 ether, 30 days, 120 days, 24, 30, 5), "frozen");
        refused(Terms(1 ether, 1 days - 1, 120 days, 1, 30, 5), "period");
        refused(Terms(1 ether, 366 days, 120 days, 24, 30, 5), "period");
        refused(Terms(1 ether, 30 days, 6 days, 24, 30, 5), "suspectDelay");
        refused(Terms(1 ether, 30 days, 366 days, 24, 30, 5), "suspectDelay");
        refused(Terms(1 ether, 30 days, 120 days, 0, 30, 5), "activationHours");
        refused(Terms(1 ether, 300 days, 120 days, 721, 30, 5), "activationHours");
        refused(Terms(1 ether, 1 days, 120 days, 24, 30, 5), "activationHours");
        refused(Terms(1 ether, 30 days, 120 days, 24, 101, 5), "lockPercent");
        refused(Terms(1 ether, 30 days, 120 days, 24, 30, 101), "feePerMille");
        setTerms(Terms(2 ether, 10 days, 7 days, 1, 0, 0));
        assertEq(parameters.terms().frozen, 2 ether, "set");
    }

    function refused(Terms memory wanted, string memory term) private {
        vm.prank(DAO);
        vm.expectRevert(abi.encodeWithSelector(Parameters.OutOfBounds.selector, term));
        parameters.setTerms(wanted);
    }
}
