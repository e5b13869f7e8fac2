/* The list of architectures. */
#include "net/zoo/zoo.h"
#include "net/netfile.h"

#include "base/option.h"

const fk_zoo_entry fk_zoo[] = {
    {"resnet18", "ResNet-18 (He et al. 2015), as torchvision", 224, fk_build_resnet, 18},
    {"resnet34", "ResNet-34, as torchvision", 224, fk_build_resnet, 34},
    {"resnet50", "ResNet-50 (v1.5: stride in the 3x3), as torchvision", 224, fk_build_resnet, 50},
    {"resnet101", "ResNet-101, as torchvision", 224, fk_build_resnet, 101},
    {"resnet152", "ResNet-152, as torchvision", 224, fk_build_resnet, 152},
    {"resnext50_32x4d", "ResNeXt-50 (Xie et al. 2016), as torchvision", 224, fk_build_resnet,
     FK_RESNEXT50_32X4D},
    {"resnext101_32x8d", "ResNeXt-101, as torchvision", 224, fk_build_resnet, FK_RESNEXT101_32X8D},
    {"resnet18d", "ResNet-18-D (He et al. 2018): three 3x3 stem, means in shortcuts, as timm", 224,
     fk_build_resnet, FK_RESNET_D + 18},
    {"resnet34d", "ResNet-34-D, as timm", 224, fk_build_resnet, FK_RESNET_D + 34},
    {"resnet50d", "ResNet-50-D, as timm", 224, fk_build_resnet, FK_RESNET_D + 50},
    {"resnet101d", "ResNet-101-D, as timm", 224, fk_build_resnet, FK_RESNET_D + 101},
    {"regnet_x_400mf", "RegNetX-400MF (Radosavovic et al. 2020), as torchvision", 224,
     fk_build_regnet, 0},
    {"regnet_x_800mf", "RegNetX-800MF", 224, fk_build_regnet, 1},
    {"regnet_x_1_6gf", "RegNetX-1.6GF", 224, fk_build_regnet, 2},
    {"regnet_x_3_2gf", "RegNetX-3.2GF", 224, fk_build_regnet, 3},
    {"regnet_x_8gf", "RegNetX-8GF", 224, fk_build_regnet, 4},
    {"regnet_x_16gf", "RegNetX-16GF", 224, fk_build_regnet, 5},
    {"regnet_y_400mf", "RegNetY-400MF: with squeeze-and-excite", 224, fk_build_regnet, 6},
    {"regnet_y_800mf", "RegNetY-800MF", 224, fk_build_regnet, 7},
    {"regnet_y_1_6gf", "RegNetY-1.6GF", 224, fk_build_regnet, 8},
    {"regnet_y_3_2gf", "RegNetY-3.2GF", 224, fk_build_regnet, 9},
    {"regnet_y_8gf", "RegNetY-8GF", 224, fk_build_regnet, 10},
    {"regnet_y_16gf", "RegNetY-16GF", 224, fk_build_regnet, 11},
    {"resnet20", "ResNet-20 for CIFAR (He et al. 2015, section 4.2; shortcut A)", 32,
     fk_build_resnet_cifar, 20},
    {"resnet32", "ResNet-32 for CIFAR", 32, fk_build_resnet_cifar, 32},
    {"resnet56", "ResNet-56 for CIFAR", 32, fk_build_resnet_cifar, 56},
    {"mobilenet_v2", "MobileNetV2 (Sandler et al. 2018), as torchvision", 224,
     fk_build_mobilenet_v2, 100},
    {"mobilenet_v2_x0_5", "MobileNetV2 of half the channels (width_mult 0.5)", 224,
     fk_build_mobilenet_v2, 50},
    {"mobilenet_v2_x0_75", "MobileNetV2, width_mult 0.75", 224, fk_build_mobilenet_v2, 75},
    {"mobilenet_v2_x1_4", "MobileNetV2, width_mult 1.4", 224, fk_build_mobilenet_v2, 140},
    {"mobilenetv3_small_100", "MobileNetV3-Small (Howard et al. 2019), as timm", 224,
     fk_build_efficientnet, FK_MOBILENETV3_SMALL},
    {"mobilenetv3_large_100", "MobileNetV3-Large, as timm", 224, fk_build_efficientnet,
     FK_MOBILENETV3_LARGE},
    {"mobilenetv4_conv_small", "MobileNetV4-Conv-Small (Qin et al. 2024), as timm", 224,
     fk_build_efficientnet, FK_MOBILENETV4_SMALL},
    {"efficientnet_b0", "EfficientNet-B0 (Tan and Le 2019), as timm", 224, fk_build_efficientnet,
     FK_EFFICIENTNET_B0},
    {"efficientnet_lite0", "EfficientNet-Lite0: ReLU6, no squeeze-and-excite, as timm", 224,
     fk_build_efficientnet, FK_EFFICIENTNET_LITE0},
    {"tf_efficientnetv2_b0", "EfficientNetV2-B0 (Tan and Le 2021), TensorFlow's padding, as timm",
     224, fk_build_efficientnet, FK_EFFICIENTNETV2_B0},
    {"fbnetc_100", "FBNet-C (Wu et al. 2019), as timm", 224, fk_build_efficientnet, FK_FBNETC_100},
    {"shufflenet_v2_x0_5", "ShuffleNetV2 (Ma et al. 2018), as torchvision", 224,
     fk_build_shufflenet_v2, 0},
    {"shufflenet_v2_x1_0", "ShuffleNetV2, 1.0 times the channels", 224, fk_build_shufflenet_v2, 1},
    {"shufflenet_v2_x1_5", "ShuffleNetV2, 1.5 times the channels", 224, fk_build_shufflenet_v2, 2},
    {"shufflenet_v2_x2_0", "ShuffleNetV2, 2.0 times the channels", 224, fk_build_shufflenet_v2, 3},
    {"vit_tiny_patch16_224", "ViT-Ti/16 (Dosovitskiy et al. 2020; Touvron et al. 2020), as timm",
     224, fk_build_vit, FK_VIT_TI_16},
    {"vit_small_patch16_224", "ViT-S/16, as timm", 224, fk_build_vit, FK_VIT_S_16},
    {"vit_base_patch16_224", "ViT-B/16, as timm", 224, fk_build_vit, FK_VIT_B_16},
    {"vit_large_patch16_224", "ViT-L/16, as timm", 224, fk_build_vit, FK_VIT_L_16},
    {"vit_huge_patch14_224", "ViT-H/14, as timm", 224, fk_build_vit, FK_VIT_H_14},
    {"vit_giant_patch14_224", "ViT-g/14 (Zhai et al. 2021), as timm", 224, fk_build_vit,
     FK_VIT_SMALL_G_14},
    {"vit_gigantic_patch14_224", "ViT-G/14: width 1664, depth 48, as timm", 224, fk_build_vit,
     FK_VIT_G_14},
    {"deit_tiny_patch16_224", "DeiT-Ti: ViT-Ti/16 (Touvron et al. 2020), as timm", 224,
     fk_build_vit, FK_VIT_TI_16},
    {"deit_small_patch16_224", "DeiT-S, as timm", 224, fk_build_vit, FK_VIT_S_16},
    {"deit_base_patch16_224", "DeiT-B, as timm", 224, fk_build_vit, FK_VIT_B_16},
    {"deit_tiny_distilled_patch16_224",
     "DeiT-Ti with a distillation token, as timm; its logits "
     "are the mean of both heads'",
     224, fk_build_vit, FK_VIT_DISTILLED | FK_VIT_TI_16},
    {"deit_small_distilled_patch16_224", "DeiT-S with a distillation token", 224, fk_build_vit,
     FK_VIT_DISTILLED | FK_VIT_S_16},
    {"deit_base_distilled_patch16_224", "DeiT-B with a distillation token", 224, fk_build_vit,
     FK_VIT_DISTILLED | FK_VIT_B_16},
    {"vit_small_patch14_dinov2", "DINOv2's ViT-S/14 (Oquab et al. 2023), as timm", 518,
     fk_build_vit, FK_VIT_SCALED | FK_VIT_S_14},
    {"vit_base_patch14_dinov2", "DINOv2's ViT-B/14, as timm", 518, fk_build_vit,
     FK_VIT_SCALED | FK_VIT_B_14},
    {"vit_large_patch14_dinov2", "DINOv2's ViT-L/14, as timm", 518, fk_build_vit,
     FK_VIT_SCALED | FK_VIT_L_14},
    {"vit_giant_patch14_dinov2", "DINOv2's ViT-g/14, gated (SwiGLU), as timm", 518, fk_build_vit,
     FK_VIT_SCALED | FK_VIT_GATED | FK_VIT_GIANT_14},
    {"vit_small_patch14_reg4_dinov2",
     "DINOv2's ViT-S/14 with 4 registers (Darcet et al. 2023), as timm", 518, fk_build_vit,
     FK_VIT_SCALED | FK_VIT_REGISTERS | FK_VIT_S_14},
    {"vit_base_patch14_reg4_dinov2", "DINOv2's ViT-B/14 with 4 registers, as timm", 518,
     fk_build_vit, FK_VIT_SCALED | FK_VIT_REGISTERS | FK_VIT_B_14},
    {"vit_large_patch14_reg4_dinov2", "DINOv2's ViT-L/14 with 4 registers, as timm", 518,
     fk_build_vit, FK_VIT_SCALED | FK_VIT_REGISTERS | FK_VIT_L_14},
    {"vit_giant_patch14_reg4_dinov2", "DINOv2's ViT-g/14 with 4 registers, as timm", 518,
     fk_build_vit, FK_VIT_SCALED | FK_VIT_REGISTERS | FK_VIT_GATED | FK_VIT_GIANT_14},
    {"vit_base_patch32_clip_224", "CLIP's ViT-B/32 (OpenCLIP), as timm", 224, fk_build_vit,
     FK_VIT_CLIP | FK_VIT_B_32},
    {"vit_base_patch16_clip_224", "CLIP's ViT-B/16 (OpenCLIP), as timm", 224, fk_build_vit,
     FK_VIT_CLIP | FK_VIT_B_16},
    {"vit_large_patch14_clip_224", "CLIP's ViT-L/14 (OpenCLIP), as timm", 224, fk_build_vit,
     FK_VIT_CLIP | FK_VIT_L_14},
    {"vit_huge_patch14_clip_224", "CLIP's ViT-H/14 (OpenCLIP), as timm", 224, fk_build_vit,
     FK_VIT_CLIP | FK_VIT_H_14},
    {"vit_base_patch32_clip_quickgelu_224",
     "CLIP's ViT-B/32 as OpenAI trained it (Radford et al. 2021), as timm", 224, fk_build_vit,
     FK_VIT_QUICK | FK_VIT_CLIP | FK_VIT_B_32},
    {"vit_base_patch16_clip_quickgelu_224", "CLIP's ViT-B/16 as OpenAI trained it, as timm", 224,
     fk_build_vit, FK_VIT_QUICK | FK_VIT_CLIP | FK_VIT_B_16},
    {"vit_large_patch14_clip_quickgelu_224", "CLIP's ViT-L/14 as OpenAI trained it, as timm", 224,
     fk_build_vit, FK_VIT_QUICK | FK_VIT_CLIP | FK_VIT_L_14},
    {"convnext_atto", "ConvNeXt-Atto (Liu et al. 2022; Wightman), as timm", 224, fk_build_convnext,
     0},
    {"convnext_femto", "ConvNeXt-Femto, as timm", 224, fk_build_convnext, 1},
    {"convnext_pico", "ConvNeXt-Pico, as timm", 224, fk_build_convnext, 2},
    {"convnext_nano", "ConvNeXt-Nano, as timm", 224, fk_build_convnext, 3},
    {"convnext_tiny", "ConvNeXt-Tiny, as timm", 224, fk_build_convnext, 4},
    {"swin_tiny_patch4_window7_224", "Swin-T (Liu et al. 2021), as timm", 224, fk_build_swin, 0},
    {"swin_small_patch4_window7_224", "Swin-S, as timm", 224, fk_build_swin, 1},
    {"swin_base_patch4_window7_224", "Swin-B, as timm", 224, fk_build_swin, 2},
    {"sret_t", "SReT-T: sliced recursive transformer (Shen et al. 2021), as its authors' code", 224,
     fk_build_sret, 0},
    {"sret_lt", "SReT-LT, FKD's and FerKD's compact transformer", 224, fk_build_sret, 1},
    {"sret_s", "SReT-S", 224, fk_build_sret, 2},
    {"small28", "a small network for 28x28 images: four 3x3 convolutions", 28, fk_build_small28, 1},
    {"small28_wide", "small28 with four times the channels: a teacher for it", 28, fk_build_small28,
     4},
};
const size_t fk_zoo_count = FK_COUNT(fk_zoo);

const fk_zoo_entry *fk_zoo_find(const char *name)
{
    size_t n = strcspn(name, "+");

    for (size_t i = 0; i < fk_zoo_count; i++) {
        if (strncmp(fk_zoo[i].name, name, n) == 0 && fk_zoo[i].name[n] == '\0')
            return &fk_zoo[i];
    }
    return NULL;
}

/* The activation behind the '+' of a name; *act stays as it is if there is none. */
static ferkd_status activation_of(const char *name, const fk_act **act)
{
    static const fk_act ACTS[] = {FK_SILU, FK_HARDSWISH, FK_MISH, FK_GELU, FK_RELU};
    const char *word = strchr(name, '+');

    for (size_t i = 0; word && i < FK_COUNT(ACTS); i++) {
        if (strcmp(fk_act_name(ACTS[i]), word + 1) == 0) {
            *act = &ACTS[i];
            return FERKD_OK;
        }
    }
    return !word ? FERKD_OK
                 : fk_fail(FERKD_ABSENT,
                           "%s: no activation \"%s\" to take ReLU's place; there are silu, "
                           "hardswish, mish, gelu, relu",
                           name, word + 1);
}

int64_t fk_zoo_size(const char *name)
{
    const fk_zoo_entry *e = fk_zoo_find(name);
    fk_netfile_about about = {.size = 224};

    if (fk_is_netfile(name) && fk_netfile_read(name, &about) != FERKD_OK)
        return 224; /* whoever builds it says why */
    return e ? e->size : about.size;
}

static ferkd_status no_such_model(const char *name)
{
    const char *near = fk_zoo[0].name;

    for (size_t i = 1; i < fk_zoo_count; i++) {
        if (fk_word_distance(fk_zoo[i].name, name) < fk_word_distance(near, name))
            near = fk_zoo[i].name;
    }
    return fk_fail(FERKD_ABSENT,
                   "%s: no model of this name; did you mean %s? (\"ferkd info\" lists them)", name,
                   near);
}

ferkd_status fk_zoo_build(fk_graph **out, const char *name, const fk_zoo_options *o)
{
    const fk_zoo_entry *e = fk_zoo_find(name);
    fk_builder b = {.st = FERKD_OK};
    int x = -1;

    if (fk_is_netfile(name))
        return fk_netfile_build(out, name, o);
    if (!e)
        return no_such_model(name);
    TRY(activation_of(name, &b.for_relu));
    TRY(fk_graph_new(&b.g, name));
    fk_node input = {.op = FK_INPUT,
                     .name = "input",
                     .param = {-1, -1, -1, -1},
                     .shape = fk_shape_of(4, o->batch, o->channels, o->size, o->size)};
    b.st = fk_graph_add(b.g, &input, &x);
    x = e->build(&b, x, o, e->variant);
    if (b.st == FERKD_OK && b.for_relu && !b.relus)
        b.st = fk_fail(FERKD_ABSENT,
                       "%s: there is no ReLU in it that another activation could replace", name);
    if (b.st == FERKD_OK)
        b.st = fk_graph_finish(b.g, x);
    if (b.st != FERKD_OK) {
        fk_graph_free(&b.g);
        return b.st;
    }
    *out = b.g;
    return FERKD_OK;
}
