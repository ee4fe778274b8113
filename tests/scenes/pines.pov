// Scots pines ("sosna") on the shore of a lake, in the fog of an early morning.
//
// Self-contained: no include files, no images, no radiosity and no photons, so that a horizontal band of the
// picture depends on nothing but this file and comes out the same in whichever order bands are rendered.
// One unit is one metre; x points right, y up, z away from the camera. The lake's surface is y = 0.
#version 3.7;
global_settings { assumed_gamma 1.0 max_trace_level 6 }

// ---------------------------------------------------------------------------------------------- light and sky

#declare Sun = vnormalize(<0.36, 0.135, 1>);
#declare SunColour = rgb <1.00, 0.66, 0.38>;
#declare HazeColour = rgb <0.64, 0.46, 0.37>;

light_source { Sun * 4000, SunColour * 2.1 parallel point_at 0 }
// The sky's own light: without shadows it costs next to nothing.
light_source { <-300, 500, -400>, rgb <0.30, 0.38, 0.52> * 0.75 shadowless }
light_source { <300, 260, 500>, rgb <0.60, 0.42, 0.34> * 0.35 shadowless }

#declare SunX = Sun.x; #declare SunY = Sun.y; #declare SunZ = Sun.z;
#declare Toward = function(x, y, z) { max(0, x * SunX + y * SunY + z * SunZ) }
sky_sphere {
  pigment {
    gradient y
    color_map {
      [0.00 rgb <0.82, 0.50, 0.32>]
      [0.09 rgb <0.74, 0.48, 0.37>]
      [0.22 rgb <0.42, 0.42, 0.50>]
      [0.45 rgb <0.17, 0.27, 0.46>]
      [1.00 rgb <0.07, 0.13, 0.30>]
    }
  }
  pigment { // thin high clouds, drawn out along the horizon
    bozo turbulence 0.55 octaves 5 omega 0.55 lambda 2.3
    color_map {
      [0.42 rgbt <1, 1, 1, 1>]
      [0.66 rgbt <0.92, 0.58, 0.44, 0.50>]
      [0.90 rgbt <0.96, 0.56, 0.38, 0.20>]
    }
    scale <0.55, 0.055, 0.30> rotate z * 4 translate <0.3, 0.02, 0>
  }
  pigment { // the glow round the sun
    function { pow(Toward(x, y, z), 24) }
    color_map {
      [0.00 rgbt <1.0, 0.62, 0.35, 1.0>]
      [0.50 rgbt <1.0, 0.68, 0.40, 0.72>]
      [0.96 rgbt <1.0, 0.80, 0.52, 0.28>]
      [1.00 rgbt <1.0, 0.88, 0.64, 0.10>]
    }
  }
  pigment { // its disc
    function { pow(Toward(x, y, z), 2600) }
    color_map {
      [0.00 rgbt <1.0, 0.85, 0.60, 1.0>]
      [0.45 rgbt <1.0, 0.90, 0.68, 0.45>]
      [0.62 rgbt <1.5, 1.38, 1.10, 0.0>]
      [1.00 rgbt <1.7, 1.60, 1.30, 0.0>]
    }
  }
}

// Two layers of ground fog: a mist that lies on the water, and a haze as high as the trees. Some of what is
// behind always shines through, or the sun would drown.
fog {
  fog_type 2 distance 60 up y fog_offset 0.2 fog_alt 0.55
  turbulence <0.6, 0.3, 0.6> turb_depth 0.35 octaves 3
  rgbt <HazeColour.red * 1.08, HazeColour.green * 1.10, HazeColour.blue * 1.14, 0.10>
}
fog {
  fog_type 2 distance 210 up y fog_offset 1.0 fog_alt 9
  rgbt <HazeColour.red, HazeColour.green, HazeColour.blue, 0.06>
}

camera {
  location <0.6, 1.75, -13>
  look_at <0.9, 3.9, 20>
  right x * image_width / image_height
  angle 58
}

// ----------------------------------------------------------------------------------------------------- terrain

#declare Noise = function { pattern { bozo } }
#declare Lump = function(x, z, s, k) { Noise(x / s, k, z / s) - 0.5 }
// Height of the ground: a spit on the left that reaches into the lake, a low point on the right, the far shore.
#declare Spit = function(x, z) {
  min(1.5, 0.16 * (-x - 4.6 - 0.19 * z + 5.5 * Lump(x, z, 9, 1.7))) - 0.0011 * pow(max(0, z - 16), 2)
}
#declare Point = function(x, z) {
  min(2.2, 0.16 * (x - 17 + 0.16 * abs(z - 36) - 0.10 * z + 7 * Lump(x, z, 11, 5.2))) - 0.004 * pow(max(0, 24 - z), 2)
}
#declare Shore = function(x, z) { min(3 + 0.05 * (z - 60), 0.10 * (z - 62 + 16 * Lump(x, z, 22, 9.1))) }
#declare Ground = function(x, z) {
  max(-1.2, max(Spit(x, z), max(Point(x, z), Shore(x, z)))) + 0.22 * Lump(x, z, 1.9, 3.3) + 0.10 * Lump(x, z, 0.6, 8.8)
}

#declare X0 = -120; #declare XW = 240; #declare Z0 = -16; #declare ZW = 216; #declare YLow = -3; #declare YHigh = 17;
height_field {
  // The picture's first row is the field's far side.
  function 300, 270 { (Ground(X0 + XW * x, Z0 + ZW * (1 - y)) - YLow) / (YHigh - YLow) }
  smooth
  translate <0, 0, 0> scale <XW, YHigh - YLow, ZW> translate <X0, YLow, Z0>
  pigment {
    bozo turbulence 0.6 scale 0.8
    color_map {
      [0.2 rgb <0.070, 0.075, 0.030>]
      [0.5 rgb <0.120, 0.105, 0.045>]
      [0.8 rgb <0.200, 0.140, 0.060>]
    }
  }
  normal { bumps 0.7 scale 0.12 }
  finish { ambient 0 diffuse 0.8 }
}

// Hills beyond, cut out of the fog, with the ragged line of a forest on their backs.
#macro Ridge(Z, Base, High, Wave, Saw, Tint, Key)
  #local S = seed(Key);
  #local Half = Z * 0.85;
  #local Step = Z / 620;
  mesh {
    #local PX = -Half; #local PY = Base;
    #local QX = PX;
    #while (QX < Half)
      #local QX = QX + Step * (0.5 + rand(S));
      #local QY = Base + High * (Noise(QX / Wave, Key, 0.3) + 0.35 * Noise(QX / Wave * 3.7, Key, 4.1)) + Saw * pow(rand(S), 2);
      triangle { <PX, -5, Z>, <PX, PY, Z>, <QX, QY, Z> }
      triangle { <PX, -5, Z>, <QX, QY, Z>, <QX, -5, Z> }
      #local PX = QX; #local PY = QY;
    #end
    pigment { rgb Tint } finish { ambient 0 diffuse 0 emission 1 }
    no_shadow
  }
#end
Ridge(1500, 30, 230, 520, 10, <0.46, 0.35, 0.36>, 11)
Ridge(700, 4, 92, 190, 9, <0.33, 0.26, 0.29>, 5)
Ridge(330, 3, 24, 90, 7, <0.15, 0.13, 0.15>, 23)

// -------------------------------------------------------------------------------------------------------- lake

plane {
  y, 0
  pigment { rgb <0.012, 0.022, 0.026> }
  normal {
    average
    normal_map {
      [1.0 bumps 0.024 scale <1.30, 1, 0.30>]
      [0.7 bumps 0.018 scale <0.30, 1, 0.09> translate 7]
    }
  }
  finish { ambient 0 diffuse 0.3 specular 0.6 roughness 0.002 reflection { 0.02, 1.0 fresnel on } conserve_energy }
  interior { ior 1.33 }
}

// ------------------------------------------------------------------------------------------------------- pines

#declare Bark = texture {
  pigment {
    gradient y turbulence 0.08
    // Grey and cracked at the foot, fox-red above: what one knows a Scots pine by.
    color_map { [0.00 rgb <0.060, 0.045, 0.036>] [0.40 rgb <0.115, 0.070, 0.045>] [0.70 rgb <0.300, 0.125, 0.050>] [1.00 rgb <0.340, 0.150, 0.060>] }
    scale 14
  }
  finish { ambient 0 diffuse 0.9 }
}
#declare Needles = array[3]
#declare Needles[0] = texture { pigment { rgb <0.030, 0.062, 0.026> } finish { ambient 0.01 diffuse 0.85 } }
#declare Needles[1] = texture { pigment { rgb <0.048, 0.088, 0.034> } finish { ambient 0.01 diffuse 0.85 } }
#declare Needles[2] = texture { pigment { rgb <0.085, 0.110, 0.036> } finish { ambient 0.01 diffuse 0.85 } }

#macro Any(S) (2 * rand(S) - 1) #end
#macro Away(S) vnormalize(<Any(S), Any(S), Any(S)> + <0, 0.001, 0>) #end

// A tapering tube of N sides between two points, as triangles of the mesh around it.
#macro Limb(A, B, RA, RB, N)
  #local D = vnormalize(B - A);
  #local U = vnormalize(vcross(D, <0.31, 0.12, 0.94>));
  #local V = vcross(D, U);
  #local I = 0;
  #while (I < N)
    #local C1 = U * cos(2 * pi * I / N) + V * sin(2 * pi * I / N);
    #local C2 = U * cos(2 * pi * (I + 1) / N) + V * sin(2 * pi * (I + 1) / N);
    smooth_triangle { A + RA * C1, C1, A + RA * C2, C2, B + RB * C1, C1 texture { Bark } }
    smooth_triangle { A + RA * C2, C2, B + RB * C2, C2, B + RB * C1, C1 texture { Bark } }
    #local I = I + 1;
  #end
#end

// A tuft of needles round P: thin triangles that point outward and a little up.
#macro Tuft(S, P, R, N)
  #local T = texture { Needles[floor(rand(S) * 2.999)] }
  #local I = 0;
  #while (I < N)
    #local D = vnormalize(Away(S) + <0, 0.45, 0>);
    #local W = vnormalize(vcross(D, Away(S))) * R * 0.050;
    #local E = P + D * R * (0.6 + 0.6 * rand(S));
    #local B = P + D * R * 0.12;
    triangle { B - W, B + W, E texture { T } }
    #local I = I + 1;
  #end
#end

// One pine of Height metres: a trunk that leans and bends, dead stubs, and an open crown of clumps.
#macro Pine(Key, Height, Bare, Spread, Clumps, NeedleCount)
  #local S = seed(Key);
  #local Rings = 9;
  #local Axis = array[Rings + 1];
  #local P = <0, -0.6, 0>;
  #local Lean = <Any(S), 0, Any(S)> * 0.045;
  #local K = 0;
  #while (K <= Rings)
    #local Axis[K] = P;
    #local P = P + (<0, 1, 0> + Lean + <Any(S), 0, Any(S)> * 0.055) * Height / Rings;
    #local K = K + 1;
  #end
  mesh {
    #local K = 0;
    #while (K < Rings)
      #local Thick = Height * 0.0165;
      Limb(Axis[K], Axis[K + 1], Thick * (1.03 - 0.93 * K / Rings) , Thick * (1.03 - 0.93 * (K + 1) / Rings), 7)
      #local K = K + 1;
    #end
    #local C = 0;
    #while (C < Clumps)
      // Where along the trunk, and how far out: widest a little above the crown's foot, rounded on top.
      #local H = Bare + (0.99 - Bare) * pow((C + rand(S)) / Clumps, 0.85);
      #local K = min(Rings - 1, floor(H * Rings));
      #local Q = Axis[K] + (Axis[K + 1] - Axis[K]) * (H * Rings - K);
      #local Up = (H - Bare) / (1 - Bare);
      #local Long = Spread * Height * (0.30 + 0.70 * sin(pi * (0.22 + 0.74 * Up))) * (0.55 + 0.6 * rand(S));
      #local Angle = C * 2.399963 + Any(S) * 0.6;
      #local Out = vnormalize(<cos(Angle), 0.12 + 0.55 * Up + 0.22 * Any(S), sin(Angle)>);
      #local M = Q + Out * Long * 0.55 + <0, -0.04 * Long, 0>;
      #local E = Q + Out * Long + <0, 0.10 * Long, 0>;
      #local Thin = Height * 0.0042 * (1.15 - Up);
      Limb(Q, M, Thin, Thin * 0.7, 4)
      Limb(M, E, Thin * 0.7, Thin * 0.25, 3)
      #local J = 0;
      #while (J < 7)
        #local F = 0.42 + 0.62 * pow(rand(S), 0.7);
        #local G = Q + Out * Long * F + <Any(S), 0.35 * Any(S) + 0.12, Any(S)> * Long * 0.26;
        Tuft(S, G, Height * (0.020 + 0.012 * rand(S)), NeedleCount)
        #local J = J + 1;
      #end
      #local C = C + 1;
    #end
    // Dead stubs below the crown.
    #local C = 0;
    #while (C < 7)
      #local H = Bare * (0.45 + 0.5 * rand(S));
      #local K = min(Rings - 1, floor(H * Rings));
      #local Q = Axis[K] + (Axis[K + 1] - Axis[K]) * (H * Rings - K);
      #local Angle = rand(S) * 2 * pi;
      Limb(Q, Q + <cos(Angle), -0.15 + 0.3 * rand(S), sin(Angle)> * Height * (0.02 + 0.05 * rand(S)), Height * 0.0028, Height * 0.0008, 3)
      #local C = C + 1;
    #end
  }
#end

// A young spruce: whorls of drooping boughs, dense to the ground.
#macro Spruce(Key, Height)
  #local S = seed(Key);
  mesh {
    Limb(<0, -0.4, 0>, <0, Height, 0>, Height * 0.014, 0.01, 5)
    #local Y = 0.04;
    #while (Y < 1)
      #local Long = Height * 0.19 * pow(1 - Y, 0.85) + 0.10;
      #local B = 0;
      #while (B < 8)
        #local Angle = Y * 40 + B * pi / 4 + Any(S) * 0.3;
        #local Out = <cos(Angle), 0, sin(Angle)>;
        #local Side = <-sin(Angle), 0, cos(Angle)>;
        #local A = <0, Y * Height, 0>;
        #local L = Long * (0.75 + 0.5 * rand(S));
        #local T = texture { Needles[floor(rand(S) * 2.2)] }
        #local I = 0;
        #while (I < 9)
          #local F = (I + rand(S)) / 9;
          #local M = A + Out * L * F + <0, -0.42 * L * F + 0.16 * L * F * F, 0>;
          #local W = L * 0.34 * (1.12 - F);
          triangle { M - Out * 0.05 * L, M + Out * 0.16 * L, M + Side * W + <0, -0.20 * W - 0.03, 0> + Out * 0.2 * W texture { T } }
          triangle { M - Out * 0.05 * L, M + Out * 0.16 * L, M - Side * W + <0, -0.20 * W - 0.03, 0> + Out * 0.2 * W texture { T } }
          #local I = I + 1;
        #end
        #local B = B + 1;
      #end
      #local Y = Y + 0.035;
    #end
  }
#end

#declare Tall = array[4]
#declare Tall[0] = Pine(3, 14, 0.52, 0.20, 30, 34)
#declare Tall[1] = Pine(71, 14, 0.60, 0.17, 26, 34)
#declare Tall[2] = Pine(29, 14, 0.45, 0.19, 32, 30)
#declare Tall[3] = Pine(113, 14, 0.66, 0.22, 22, 34)
#declare Young = array[2]
#declare Young[0] = Spruce(8, 6)
#declare Young[1] = Spruce(15, 8)

#macro Plant(Tree, PX, PZ, Size, Turn)
  object { Tree scale Size rotate y * Turn translate <PX, max(0, Ground(PX, PZ)), PZ> }
#end

// The group on the spit: placed by hand, for it carries the picture.
Plant(Tall[0], -7.4, 3.5, 0.86, 20)
Plant(Tall[1], -10.6, 6.5, 0.98, 130)
Plant(Tall[3], -6.6, 10.5, 0.90, 250)
Plant(Tall[2], -12.5, 12.0, 0.95, 75)
Plant(Tall[0], -9.0, 16.5, 0.92, 300)
Plant(Tall[1], -15.5, 9.5, 1.00, 10)
Plant(Tall[3], -14.0, 20.0, 1.00, 180)
Plant(Young[0], -9.1, 4.6, 0.42, 0)
Plant(Young[1], -12.2, 8.6, 0.50, 80)
Plant(Young[0], -8.4, 12.4, 0.55, 40)
// The point on the right.
Plant(Tall[2], 19.8, 30.0, 0.95, 200)
Plant(Tall[1], 23.0, 33.0, 1.05, 60)
Plant(Tall[0], 26.5, 31.0, 1.00, 140)
Plant(Young[1], 21.3, 31.5, 0.80, 20)
Plant(Young[0], 18.6, 29.6, 0.60, 100)
Plant(Tall[3], 28.5, 37.0, 1.10, 310)

// The forest of the far shore and of the banks' backs.
#declare S = seed(2024);
#declare Planted = 0;
#while (Planted < 330)
  #declare PX = -95 + 190 * rand(S);
  #declare PZ = 8 + 122 * pow(rand(S), 0.8);
  #declare GY = Ground(PX, PZ);
  // Not in the water, and not where the hand-placed groups stand.
  #if (GY > 0.35 & (PZ > 56 | PX < -17 - 0.2 * PZ | PX > 26 + 0.2 * PZ))
    #if (rand(S) < 0.68)
      Plant(Tall[floor(rand(S) * 3.999)], PX, PZ, 0.72 + 0.42 * rand(S), 360 * rand(S))
    #else
      Plant(Young[floor(rand(S) * 1.999)], PX, PZ, 0.6 + 0.7 * rand(S), 360 * rand(S))
    #end
  #end
  #declare Planted = Planted + 1;
#end

// ------------------------------------------------------------------------------------ reeds, stones, a landing

#declare Reed = texture { pigment { rgb <0.170, 0.125, 0.050> } finish { ambient 0 diffuse 0.9 } }
#declare S = seed(77);
mesh {
  #declare I = 0;
  #while (I < 900)
    #declare PX = -8.5 + 8 * rand(S);
    #declare PZ = -7 + 12 * rand(S);
    #declare GY = Ground(PX, PZ);
    #if (GY > -0.28 & GY < 0.16)
      #declare H = 0.5 + 0.9 * rand(S);
      #declare B = <0.25 + 0.4 * Any(S), 0, 0.3 * Any(S)> * H * 0.4;
      #declare A = <PX, min(GY, 0) - 0.1, PZ>;
      #declare M = A + <0, H * 0.6, 0> + B * 0.35;
      #declare E = A + <0, H, 0> + B;
      triangle { A - x * 0.011, A + x * 0.011, M + x * 0.008 texture { Reed } }
      triangle { A - x * 0.011, M + x * 0.008, M - x * 0.008 texture { Reed } }
      triangle { M - x * 0.008, M + x * 0.008, E texture { Reed } }
    #end
    #declare I = I + 1;
  #end
}

#declare Stone = texture {
  pigment { bozo turbulence 0.8 color_map { [0.2 rgb <0.060, 0.058, 0.056>] [0.8 rgb <0.170, 0.160, 0.150>] } scale 0.2 }
  normal { bumps 0.8 scale 0.09 }
  finish { ambient 0 diffuse 0.85 specular 0.15 roughness 0.05 }
}
#declare S = seed(5);
#declare I = 0;
#while (I < 34)
  #declare PX = -7.5 + 6.5 * rand(S);
  #declare PZ = -6 + 14 * rand(S);
  #declare GY = Ground(PX, PZ);
  #if (GY > -0.35 & GY < 0.10)
    sphere { 0, 1 scale <0.16 + 0.30 * rand(S), 0.09 + 0.14 * rand(S), 0.15 + 0.24 * rand(S)> rotate y * 360 * rand(S)
      translate <PX, GY + 0.04, PZ> texture { Stone } }
  #end
  #declare I = I + 1;
#end

// The landing stage on the right, grey from years of weather.
#declare Wood = texture {
  pigment { bozo turbulence 0.4 color_map { [0.2 rgb <0.120, 0.100, 0.082>] [0.8 rgb <0.260, 0.215, 0.175>] } scale <0.6, 0.04, 0.04> }
  normal { bumps 0.3 scale <0.5, 0.03, 0.03> }
  finish { ambient 0 diffuse 0.9 specular 0.1 roughness 0.06 }
}
union {
  #declare S = seed(41);
  #declare I = 0;
  #while (I < 26)
    box { <-0.62, 0, 0>, <0.62, 0.045, 0.20> rotate y * Any(S) * 1.3 rotate z * Any(S) * 0.7 translate <0.03 * Any(S), 0.44, I * 0.23> }
    #declare I = I + 1;
  #end
  #declare I = 0;
  #while (I < 4)
    cylinder { <-0.55, -1, 0>, <-0.55, 0.44 + 0.42 * mod(I, 2), 0>, 0.065 translate z * (0.2 + 1.8 * I) }
    cylinder { <0.55, -1, 0>, <0.55, 0.44 + 0.42 * mod(I + 1, 2), 0>, 0.065 translate z * (0.2 + 1.8 * I) }
    #declare I = I + 1;
  #end
  box { <-0.50, 0.36, 0>, <-0.42, 0.44, 6> } box { <0.42, 0.36, 0>, <0.50, 0.44, 6> }
  texture { Wood }
  rotate y * -24 translate <4.3, 0, -9.2>
}

// Some cranes on their way south.
#declare Wing = texture { pigment { rgb <0.060, 0.050, 0.055> } finish { ambient 0 diffuse 0.6 } }
#declare S = seed(19);
mesh {
  #declare I = 0;
  #while (I < 9)
    #declare Side = 1 - 2 * mod(I, 2);
    #declare K = floor((I + 1) / 2);
    #declare P = <13 + Side * K * 1.9 + Any(S) * 0.3, 31 - K * 0.35 * Side + Any(S) * 0.25, 78 + K * 1.6>;
    #declare Flap = 0.35 + 0.65 * rand(S);
    triangle { P + x * 0.16, P - x * 0.16, P + <-0.85, 0.10 + Flap * 0.6, 0.1> texture { Wing } }
    triangle { P + x * 0.16, P - x * 0.16, P + <0.85, 0.10 + Flap * 0.6, 0.1> texture { Wing } }
    triangle { P + <-0.40, 0.06 + Flap * 0.28, 0>, P + <-0.85, 0.10 + Flap * 0.6, 0.1>, P + <-1.35, Flap * 0.45, 0.2> texture { Wing } }
    triangle { P + <0.40, 0.06 + Flap * 0.28, 0>, P + <0.85, 0.10 + Flap * 0.6, 0.1>, P + <1.35, Flap * 0.45, 0.2> texture { Wing } }
    triangle { P + <-0.07, 0.05, 0>, P + <0.07, 0.05, 0>, P + <0.02, -0.30, 0.3> texture { Wing } }
    #declare I = I + 1;
  #end
}

// --------------------------------------------------------------------------------------------- drifts of mist

// Upright veils across the lake, thin as breath: far cheaper than a participating medium, and steady from
// band to band.
#macro Veil(Z, Top, Thick, Key)
  #local Fade = function { pow(max(0, 1 - y / Top), 1.6) * min(1, max(0, y) / 0.25) }
  #local Drift = function { pattern { bozo turbulence 0.5 octaves 4 scale <Z * 0.22, Top * 0.30, 1> translate Key } }
  polygon {
    5, <-Z * 1.2 - 20, 0>, <Z * 1.2 + 20, 0>, <Z * 1.2 + 20, Top>, <-Z * 1.2 - 20, Top>, <-Z * 1.2 - 20, 0>
    pigment {
      function { min(1, max(0, Fade(x, y, z) * (Drift(x, y, z) - 0.25) * 1.9 * Thick)) }
      color_map { [0 rgbt <0.66, 0.49, 0.41, 1>] [1 rgbt <0.78, 0.58, 0.47, 0>] }
    }
    finish { ambient 0 diffuse 0 emission 0.93 }
    translate z * Z
    no_shadow
  }
#end
Veil(9, 1.3, 0.35, 3)
Veil(19, 2.2, 0.55, 17)
Veil(31, 3.2, 0.75, 29)
Veil(45, 5.0, 0.95, 31)
Veil(60, 8.0, 1.00, 47)
Veil(84, 11.0, 0.90, 53)
