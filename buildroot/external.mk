include $(sort $(wildcard $(BR2_EXTERNAL_SOSNA_PATH)/package/*/*.mk))
